//! Packets nobody should send: whatever comes, no panic, no endless work, no growth.

use super::super::*;
use super::host::*;
use super::plan::Rng;
use crate::opcode::Opcode;
use crate::packet::{Aeth, AtomicEth, Packet, Reth};
use crate::psn::Psn;
use crate::time::Time;
use proptest::prelude::*;
use std::time::Duration;

/// Near the expected, mostly: far from it nothing interesting happens.
fn number(rng: &mut Rng, near: u32) -> u32 {
    match rng.below(4) {
        0 => rng.next() as u32,
        1 => near,
        _ => near.wrapping_add(rng.below(8) as u32).wrapping_sub(4),
    }
}

fn random_packet(rng: &mut Rng, psn: Psn) -> Packet {
    let opcode = loop {
        if let Some(opcode) =
            Opcode::from_byte(rng.below(0x20) as u8 | [0, 0, 0, 0x20, 0xa0][rng.below(5) as usize])
        {
            break opcode;
        }
    };
    let len = |rng: &mut Rng| {
        let near = [0, 1, MTU, 2 * MTU][rng.below(4) as usize];
        number(rng, near)
    };
    let va = number(rng, 0).wrapping_mul(8).into();
    let reth = Reth {
        va,
        rkey: RKEY,
        dma_len: len(rng),
    };
    let atomic = AtomicEth {
        va,
        rkey: RKEY,
        swap_add: rng.next(),
        compare: rng.next(),
    };
    let syndrome = [0x1f, 0x20, 0x60, 0x61, rng.next() as u8][rng.below(5) as usize];
    // Headers the opcode does not carry may be there and others missing.
    Packet {
        opcode,
        solicited: rng.below(2) == 0,
        mig_req: true,
        pkey: 0xffff,
        dest_qp: 0,
        ack_req: rng.below(2) == 0,
        psn: Psn::new(number(rng, psn.get())),
        xrc_srqn: (rng.below(2) == 0).then_some(1),
        deth: None,
        reth: (rng.below(16) > 0).then_some(reth),
        atomic: (rng.below(16) > 0).then_some(atomic),
        aeth: (rng.below(16) > 0).then_some(Aeth {
            syndrome,
            msn: rng.next() as u32,
        }),
        atomic_ack: (rng.below(16) > 0).then_some(rng.next()),
        imm: (rng.below(16) > 0).then_some(7),
        inv_rkey: (rng.below(16) > 0).then_some(8),
        payload_len: if rng.below(2) == 0 { MTU } else { len(rng) },
    }
}

fn random_params(rng: &mut Rng) -> RcParams {
    RcParams {
        mtu: MTU,
        retry_count: rng.below(8) as u8,
        rnr_retry: rng.below(8) as u8,
        ack_timeout: rng.below(32) as u8,
        max_rd_atomic: rng.below(5) as u32,
        max_dest_rd_atomic: rng.below(5) as u32,
        log_ack_req_freq: rng.next() as u8,
        log_msg_max: rng.next() as u8,
        min_rnr_timer: rng.next() as u8,
        ..RcParams::default()
    }
}

proptest! {
    #[test]
    fn a_responder_survives_anything(seed: u64) {
        let mut rng = Rng::new(seed);
        let params = random_params(&mut rng);
        let (mut rc, mut uc) = (Responder::new(), UcResponder::new());
        let mut host = Host::new();
        for _ in 0..400 {
            if !rc.is_running() || !uc.is_running() {
                let psn = Psn::new(rng.next() as u32);
                rc.configure_rtr(psn, &params);
                uc.configure_rtr(psn, &params);
            }
            host.begin = Ok([Begin::Ready, Begin::Ready, Begin::NotReady][rng.below(3) as usize]);
            let packet = random_packet(&mut rng, rc.next_rcv_psn());
            let _ = rc.handle_request(&packet, &mut host);
            let _ = uc.handle_request(&packet, &mut host);
            for _ in 0..rng.below(4) {
                if rc.poll_transmit().is_some() && rng.below(32) == 0 {
                    let _ = rc.read_failed(RemoteFault::Access, &mut host);
                }
            }
            prop_assert!(rc.owed() <= 2 * rc.params().max_dest_rd_atomic as usize + 1);
        }
    }

    #[test]
    fn a_requester_survives_anything(seed: u64) {
        let mut rng = Rng::new(seed);
        let params = random_params(&mut rng);
        let mut requester = Requester::new(16);
        let mut host = Host::new();
        let mut now = Time::ZERO;
        let mut cookie = 0;
        for _ in 0..400 {
            if !requester.is_running() {
                let mut flushed = 0;
                requester.flush(|_| flushed += 1);
                prop_assert!(flushed <= 16);
                requester.configure_rts(Psn::new(rng.next() as u32), &params);
            }
            let op = match rng.below(6) {
                0 => SendOp::Send,
                1 => SendOp::Write { va: VA, rkey: RKEY },
                2 => SendOp::FetchAdd { va: VA, rkey: RKEY, add: 1 },
                3 => SendOp::Local,
                _ => SendOp::Read { va: VA, rkey: RKEY },
            };
            let fence = [Fence::None, Fence::None, Fence::ReadAtomic, Fence::All][rng.below(4) as usize];
            let len = number(&mut rng, 2 * MTU);
            if requester.post(SendWr { fence, ..wr(op, len, cookie) }).is_ok() {
                cookie += 1;
            }
            for _ in 0..rng.below(8) {
                let Some(tx) = requester.poll_transmit(now, &mut host) else { break };
                prop_assert!(tx.packet.payload_len <= MTU);
                if rng.below(64) == 0 {
                    let cookie = tx.cookie;
                    requester.fail_local(cookie, WcError::LocalProtection, &mut host);
                }
            }
            let near = if rng.below(2) == 0 { requester.last_acked_psn() } else { requester.next_send_psn() };
            let packet = random_packet(&mut rng, near);
            requester.handle_response(now, &packet, &mut host);
            now += Duration::from_micros(rng.below(2000));
            if requester.next_timeout().is_some_and(|due| due <= now) {
                requester.handle_timeout(now, &mut host);
            }
        }
    }
}

#[test]
fn each_cookie_is_reported_once_and_in_order_whatever_comes() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut s = Sender::new(RcParams {
            ack_timeout: 0,
            ..params()
        });
        for cookie in 0..40 {
            let op = if rng.below(2) == 0 {
                SendOp::Send
            } else {
                SendOp::Read { va: VA, rkey: RKEY }
            };
            s.post(op, rng.below(1000) as u32, cookie);
        }
        for _ in 0..400 {
            s.packets();
            let packet = random_packet(&mut rng, s.requester.last_acked_psn());
            s.receive(packet);
        }
        let mut reported: Vec<u32> = s
            .host
            .take()
            .iter()
            .filter_map(|asked| match asked {
                Asked::Completed(cookie) | Asked::Failed(cookie, _) => Some(*cookie),
                _ => None,
            })
            .collect();
        s.requester.flush(|cookie| reported.push(cookie));
        assert_eq!(reported, (0..40).collect::<Vec<_>>(), "seed {seed}");
    }
}
