//! Frames that come back to the NIC that sent them.

use super::*;
use crate::mlx5::wqe::opcode;
use rocinante_firmware_cmd::mlx5::eth::ModifyTirIn;

const STRANGER: [u8; 6] = [0x24, 0x8a, 0x07, 0xa5, 0x28, 0xc8];
const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];

/// A NIC whose send queue and receiver are in transport domains of their own, or in the same.
struct Loop {
    host: Host,
    sq: TestSq,
    rq: TestRq,
    tirn: u32,
}

impl Loop {
    fn new(apart: bool) -> Loop {
        let mut host = Host::new(1);
        let sq = host.sq();
        if apart {
            let td = host.ok(&input(Opcode::AllocTransportDomain, 0, 16));
            host.td = AllocTransportDomainOut::new(&td).transport_domain();
        }
        let rq = host.rq(false);
        host.fill(&rq, BUFFER);
        let tirn = host.tir(eth::tir::Disposition::Direct(rq.rqn));
        host.all_to(&[tirn]);
        Loop { host, sq, rq, tirn }
    }

    /// Sends a frame to `mac`: whether it went to the wire, and whether it came back.
    fn send(&mut self, mac: [u8; 6]) -> (bool, bool) {
        let mut frame = pattern(100);
        frame[..6].copy_from_slice(&mac);
        let mut segments = eth_seg(0, 0, &[]);
        segments.extend(self.host.data_seg(&frame));
        self.host.post(&mut self.sq, opcode::SEND, false, &segments);
        self.host.ring_doorbell(&self.sq);
        let sent = self.host.frames();
        assert!(sent.is_empty() || sent == [frame]);
        let back = self.host.poll(&mut self.rq.cq).is_some();
        (!sent.is_empty(), back)
    }

    fn allow(&mut self, bits: u8) {
        let mut modify = input(Opcode::ModifyTir, 0, ModifyTirIn::SIZE);
        let mut view = ModifyTirIn::new(&mut modify);
        view.set_tirn(self.tirn);
        view.bitmask_mut().set_self_lb_en(true);
        view.tirc_mut().set_self_lb_block(bits);
        self.host.ok(&modify);
    }
}

#[test]
fn another_transport_domain_gets_frames_back() {
    let mut pair = Loop::new(true);
    let own = pair.host.nic.core.vport.permanent.octets();
    assert_eq!(pair.send(STRANGER), (true, false));
    assert_eq!(pair.send(GROUP), (true, true));
    assert_eq!(pair.send(own), (false, true));
    let core = &mut pair.host.nic.core;
    assert_eq!(core.vport_counters.local_loopback.packets, 2);
    // What never was on the wire is not counted there.
    assert_eq!(core.port.counters.received.frames, 0);
    assert_eq!(core.port.counters.transmitted.frames, 2);
    core.vport.disable_uc_local_lb = true;
    assert_eq!(pair.send(own), (true, false));
    assert_eq!(pair.send(GROUP), (true, true));
    pair.host.nic.core.vport.disable_mc_local_lb = true;
    assert_eq!(pair.send(GROUP), (true, false));
}

#[test]
fn the_same_transport_domain_gets_only_what_its_tir_asks_for() {
    let mut pair = Loop::new(false);
    let own = pair.host.nic.core.vport.permanent.octets();
    assert_eq!(pair.send(own), (true, false));
    assert_eq!(pair.send(GROUP), (true, false));
    pair.allow(1);
    assert_eq!(pair.send(own), (false, true));
    assert_eq!(pair.send(STRANGER), (true, false));
    assert_eq!(pair.send(GROUP), (true, false));
    pair.allow(2);
    assert_eq!(pair.send(own), (true, false));
    assert_eq!(pair.send(GROUP), (true, true));
    pair.allow(0);
    assert_eq!(pair.send(GROUP), (true, false));
    let core = &pair.host.nic.core;
    assert_eq!(core.eth.discards.nic_receive_steering_discard, 0);
}
