//! Counters of RoCE at both ends of a perfect link: what one end sent the other received, and each
//! operation is counted where drivers show it.

use rocinante_firmware_cmd::mlx5::command::Input;
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::vport::QueryVportCounterOut;
use rocinante_harness::driver::{QpConfig, SendOp, Service};
use rocinante_tests::World;

/// Packets and bytes of RoCE, sent and received, as `port_xmit_*` and `port_rcv_*` of
/// /sys/class/infiniband add them up.
fn vport(world: &mut World, node: usize) -> [(u64, u64); 2] {
    let mut query = [0; 0x20];
    Input::new(&mut query).set_opcode(Opcode::QueryVportCounter.code());
    let output = world
        .node(node)
        .execute(&query, QueryVportCounterOut::SIZE)
        .unwrap();
    let out = QueryVportCounterOut::new(&output);
    assert_eq!(out.transmitted_ib_multicast().packets(), 0);
    [out.transmitted_ib_unicast(), out.received_ib_unicast()]
        .map(|traffic| (traffic.packets(), traffic.octets()))
}

#[test]
fn what_one_end_sent_the_other_received() {
    let mut world = World::new(2);
    let sets = [0, 1].map(|node| world.node(node).alloc_q_counter().unwrap());
    let configs = [0, 1].map(|node| QpConfig {
        counters: sets[node],
        ..world.config(node, Service::Rc)
    });
    let [here, there] = world.pair([0, 1], configs, |_| {});
    let source = world.pattern(0, 8 << 10, 1);
    let target = world.payload(1, 8 << 10);
    let (va, rkey) = (target.mr.va, target.mr.key);
    let gather = [source.mr.sge(0, 5000)];
    for n in 0..3 {
        world.post(0, here, n, SendOp::Write { va, rkey }, &gather);
        world.success(0);
    }
    for n in 0..2 {
        world.post(0, here, n, SendOp::Read { va, rkey }, &gather);
        world.success(0);
    }
    let word = [source.mr.sge(0, 8)];
    let add = SendOp::FetchAdd { va, rkey, add: 1 };
    world.post(0, here, 0, add, &word);
    world.success(0);
    world.receive(1, there, 9, &[target.mr.sge(0, 100)]);
    world.post(0, here, 0, SendOp::Send, &[source.mr.sge(0, 100)]);
    world.success(0);
    world.success(1);

    let [sent, received] = vport(&mut world, 0);
    let [answered, taken] = vport(&mut world, 1);
    println!("{sent:?} {received:?}");
    assert_eq!(sent, taken);
    assert_eq!(answered, received);
    // Each write of 5000 bytes takes at least two packets of any MTU, the other requests one.
    assert!(sent.0 > 3 * 2 + 2 + 1, "{sent:?}");
    assert!(sent.1 > 3 * 5000 + 100 && received.1 > 2 * 5000);
    let q = world.node(1).query_q_counter(sets[1]).unwrap();
    assert_eq!(
        (
            q.rx_write_requests(),
            q.rx_read_requests(),
            q.rx_atomic_requests()
        ),
        (3, 2, 1)
    );
    assert_eq!((q.out_of_sequence(), q.duplicate_request()), (0, 0));
}

#[test]
fn a_loop_counts_both_ways_on_the_vport() {
    let mut world = World::new(1);
    let configs = [world.config(0, Service::Rc), world.config(0, Service::Rc)];
    let [here, _] = world.pair([0, 0], configs, |_| {});
    let source = world.pattern(0, 4096, 1);
    let target = world.payload(0, 4096);
    let (va, rkey) = (target.mr.va, target.mr.key);
    world.post(
        0,
        here,
        1,
        SendOp::Write { va, rkey },
        &[source.mr.sge(0, 64)],
    );
    world.success(0);
    let [sent, received] = vport(&mut world, 0);
    assert_eq!(sent, received);
    // The write and its acknowledgement.
    assert_eq!(sent.0, 2);
}
