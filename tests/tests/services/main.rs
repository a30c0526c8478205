//! Services besides reliable connections, and what a NIC does without a peer.

mod connections;
mod datagrams;
mod local;

use rocinante_harness::driver::fabric::LinkConfig;
use rocinante_harness::driver::{Mtu, QpConfig, RoceType, Service};
use rocinante_tests::World;

const QKEY: u32 = 0x1234_5678;

/// Bytes in front of a datagram's payload.
const GRH: usize = 40;

/// A datagram QP on a node, ready to send.
fn datagram_qp(world: &mut World, node: usize, config: QpConfig) -> u32 {
    let driver = world.node(node);
    let qpn = driver.create_qp(&config).unwrap();
    driver.activate(qpn, Mtu::M4096).unwrap();
    qpn
}

fn ud(world: &mut World, node: usize) -> u32 {
    let config = QpConfig {
        qkey: QKEY,
        ..world.config(node, Service::Ud)
    };
    datagram_qp(world, node, config)
}

fn of_kind(kind: RoceType, as_bytes: bool) -> World {
    let link = LinkConfig {
        as_bytes,
        ..LinkConfig::default()
    };
    World::with(2, 32 << 20, link, kind)
}
