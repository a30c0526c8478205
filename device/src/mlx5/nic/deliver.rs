//! Frames that have arrived: RoCE to the queue pairs that it is for, everything else to Ethernet's steering. Knows who a
//! packet is for, not what becomes of it there.

use log::{debug, trace};
use rocinante_wire::roce::RoceFrame;

use super::Nic;
use super::deadlines::arm_timer;
use crate::mlx5::core::NicFrame;
use crate::mlx5::eth;
use crate::mlx5::qp::{datagram, receive};

impl Nic {
    pub(super) fn frame(&mut self, frame: &NicFrame) {
        if !self.core.bus_master || !self.core.port.link_up() {
            return;
        }
        let mut roce = RoceFrame::empty();
        if self.core.vport.roce_en
            && frame.parse_roce_to(&mut roce).is_ok()
            && self.core.is_for_roce(&roce)
        {
            if !frame.icrc_is_good(&roce.layout) {
                debug!(target: "roce::receive", "{}: wrong ICRC: {:?}", self.core.config.name, roce.packet);
                self.core.icrc_errors += 1;
                return;
            }
            let len = frame.len_on_wire();
            self.core.count_roce_receive(&roce.address, len);
            self.deliver(&roce, frame);
            return;
        }
        eth::receive(&mut self.core, frame);
    }

    /// A frame of this NIC for itself.
    pub(super) fn roce(&mut self, frame: &NicFrame) {
        let mut roce = RoceFrame::empty();
        if frame.parse_roce_to(&mut roce).is_ok() {
            let mac = roce.address.dst_mac;
            let counters = &mut self.core.vport_counters;
            counters.received_ib(mac).count(frame.len_on_wire());
            self.deliver(&roce, frame);
        }
    }

    fn deliver(&mut self, roce: &RoceFrame, frame: &NicFrame) {
        match roce.packet.dest_qp {
            datagram::MULTICAST_QPN => self.deliver_multicast(roce, frame),
            datagram::GSI_QPN => {
                if let Some(qpn) = self.gsi {
                    self.deliver_to(qpn, roce, frame);
                }
            }
            qpn => self.deliver_to(qpn, roce, frame),
        }
    }

    fn deliver_multicast(&mut self, roce: &RoceFrame, frame: &NicFrame) {
        let gid = roce.address.l3.dst_gid().0;
        let own = self.core.is_own_mac(roce.address.src_mac);
        let count = self.core.roce.multicast.get(&gid).map_or(0, Vec::len);
        for index in 0..count {
            let member = self
                .core
                .roce
                .multicast
                .get(&gid)
                .and_then(|qpns| qpns.get(index));
            let Some(&qpn) = member else { return };
            let sender = own
                && roce.packet.deth.is_some_and(|deth| deth.src_qp == qpn)
                && self.qps.get(qpn).is_some_and(|qp| qp.attr.block_lb_mc);
            if !sender {
                self.deliver_to(qpn, roce, frame);
            }
        }
    }

    fn deliver_to(&mut self, qpn: u32, roce: &RoceFrame, frame: &NicFrame) {
        let Some(qp) = self.qps.get_mut(qpn) else {
            trace!(target: "roce::receive", "{}: no QP {qpn:#x}", self.core.config.name);
            return;
        };
        receive::packet(qp, &mut self.core, roce, frame);
        arm_timer(qp, &mut self.core);
        self.schedule(qpn);
    }
}
