//! Completions as the driver is told of them: interrupt moderation, the device's clock, and what a
//! full completion queue means for the queues on it.

use super::*;
use crate::mlx5::eth::headers::protocol;
use crate::mlx5::eth::headers::tests::ipv4;
use crate::mlx5::eth::tir::Disposition;
use crate::mlx5::nic::Input as NicInput;
use crate::mlx5::wqe::opcode;
use rocinante_firmware_cmd::mlx5::cq::ModifyCqIn;
use rocinante_wire::time::Time;

impl Host {
    /// Events written to the EQ so far.
    fn events(&self) -> u32 {
        let eq = self.nic.core.eqs.table.get(self.eqn);
        eq.expect("the EQ").producer()
    }

    /// Arms a CQ for its next completion.
    fn arm(&mut self, cq: &TestCq) {
        let core = &mut self.nic.core;
        let (word0, word1) = (cq.consumer & 0xff_ffff, cq.cqn);
        core.cqs.doorbell(
            &core.mem,
            &mut core.eqs,
            &mut core.timers,
            core.now,
            word0,
            word1,
        );
    }

    fn moderate(&mut self, cqn: u32, period: u16, count: u16, from_cqe: bool) {
        let mut modify = input(Opcode::ModifyCq, 0, ModifyCqIn::SIZE);
        let mut view = ModifyCqIn::new(&mut modify);
        // Period, count and mode, as Linux' DIM and `ethtool -C` send them.
        view.set_cqn(cqn).set_field_select(0b1_0011);
        view.cqc_mut()
            .set_cq_period(period)
            .set_cq_max_count(count)
            .set_cq_period_mode(u8::from(from_cqe));
        self.ok(&modify);
    }

    /// The time is `us` microseconds.
    fn at(&mut self, us: u64) {
        self.nic.handle(Time(us * 1000), NicInput::Tick);
    }
}

fn frame() -> Vec<u8> {
    ipv4(None, protocol::UDP, (5, 6), b"data")
}

#[test]
fn an_event_waits_for_the_count_or_the_period() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    host.moderate(rq.cq.cqn, 16, 4, false);
    host.arm(&rq.cq);
    let start = host.events();
    for n in 0..4 {
        assert_eq!(host.events(), start, "after {n}");
        host.receive(&frame());
    }
    assert_eq!(host.events(), start + 1, "four completions");
    host.receive(&frame());
    assert_eq!(host.events(), start + 1, "not armed");
    // The driver has seen four: the fifth counts as soon as the queue is armed, its time too.
    for _ in 0..4 {
        host.poll(&mut rq.cq);
    }
    host.at(100);
    host.arm(&rq.cq);
    host.at(110);
    host.receive(&frame());
    host.at(115);
    assert_eq!(host.events(), start + 1);
    host.at(116);
    assert_eq!(host.events(), start + 2, "16 us since the first");
    assert_eq!(host.nic.poll_timeout(), None, "no timer is left");
}

#[test]
fn the_period_may_start_anew_with_each_completion() {
    let mut host = Host::new(1);
    let rq = host.receiver(false);
    host.moderate(rq.cq.cqn, 8, 0, true);
    host.arm(&rq.cq);
    let start = host.events();
    for us in [0, 6, 12, 18] {
        host.at(us);
        host.receive(&frame());
    }
    host.at(25);
    assert_eq!(
        host.events(),
        start,
        "25 us after the first, 7 after the last"
    );
    host.at(26);
    assert_eq!(host.events(), start + 1);
}

#[test]
fn without_moderation_each_completion_of_an_armed_queue_is_an_event() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    host.moderate(rq.cq.cqn, 100, 50, false);
    host.moderate(rq.cq.cqn, 0, 0, false);
    for n in 1..=3 {
        host.arm(&rq.cq);
        let start = host.events();
        host.receive(&frame());
        assert_eq!(host.events(), start + 1, "completion {n}");
        host.poll(&mut rq.cq);
    }
}

#[test]
fn completions_carry_the_clock_that_the_driver_reads() {
    let mut host = Host::new(1);
    let mut rq = host.receiver(false);
    let mut sq = host.sq();
    let mut last = 0;
    for us in [5u64, 5, 70_000_000, 5_000_000_000] {
        host.at(us);
        let mut timer = [0; 8];
        host.nic.bar_read(Time(us * 1000), 0x1000, &mut timer);
        let now = u64::from_be_bytes(timer);
        host.receive(&frame());
        let data = host.data_seg(&frame()[14..]);
        let segments = [eth_seg(0, 0, &frame()[..14]), data].concat();
        host.post(&mut sq, opcode::SEND, true, &segments);
        host.ring_doorbell(&sq);
        for cq in [&mut rq.cq, &mut sq.cq] {
            let cqe = host.poll(cq).expect("a completion");
            let stamp = u64::from_be_bytes(cqe[0x30..0x38].try_into().unwrap());
            assert_eq!(stamp, now, "nanoseconds: device_frequency_khz is 10^6");
            assert!(stamp >= last);
            last = stamp;
        }
    }
    let khz = host.nic.core.hca.caps.general().device_frequency_khz();
    assert_eq!(khz, 1_000_000);
}

#[test]
fn a_full_completion_queue_is_an_error_of_its_own_and_stops_what_is_on_it() {
    let mut host = Host::new(1);
    let mut sq = host.sq();
    // Asynchronous events go to an EQ that asks for them: CQ errors are type 4.
    let eq = host.nic.core.eqs.table.get_mut(host.eqn).unwrap();
    eq.event_mask[0] |= 1 << 4;
    let start = host.events();
    let data = host.data_seg(&frame()[14..]);
    let segments = [eth_seg(0, 0, &frame()[..14]), data].concat();
    for _ in 0..(1 << LOG_CQ_SIZE) {
        host.post(&mut sq, opcode::SEND, true, &segments);
        host.ring_doorbell(&sq);
    }
    assert_eq!(host.events(), start);
    let sqn = sq.sqn;
    let state = |host: &Host| host.nic.core.eth.sqs.get(sqn).unwrap().state as u8;
    assert_eq!(state(&host), 1);
    host.post(&mut sq, opcode::SEND, true, &segments);
    host.ring_doorbell(&sq);
    assert_eq!(host.events(), start + 1, "CQ error");
    assert_eq!(state(&host), 3);
    assert_eq!(host.nic.core.cqs.table.get(sq.cq.cqn).unwrap().status(), 9);

    let mut rq = host.rq(false);
    let large = 2 << LOG_CQ_SIZE;
    host.fill(&rq, BUFFER);
    let tirn = host.tir(Disposition::Direct(rq.rqn));
    host.all_to(&[tirn]);
    let mut received = 0;
    for posted in 17..17 + large {
        host.write(rq.record, &(posted as u32).to_be_bytes());
        host.receive(&frame());
    }
    assert_eq!(host.nic.core.eth.rqs.get(rq.rqn).unwrap().state as u8, 3);
    assert_eq!(host.events(), start + 2);
    while host.poll(&mut rq.cq).is_some() {
        received += 1;
    }
    assert_eq!(received, 1 << LOG_CQ_SIZE, "what was there before is there");
}
