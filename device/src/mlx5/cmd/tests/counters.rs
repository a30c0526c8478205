//! Q counter sets, vport counters, vNIC diagnostics.

use rocinante_firmware_cmd::mlx5::resources::{
    AllocQCounterOut, QueryQCounterIn, QueryQCounterOut,
};
use rocinante_firmware_cmd::mlx5::vport::{
    QueryVnicEnvOut, QueryVportCounterIn, QueryVportCounterOut,
};

use super::*;

#[test]
fn q_counters_are_read_and_cleared() {
    let mut driver = Driver::initialized();
    let id = AllocQCounterOut::new(&driver.bare(Opcode::AllocQCounter)).counter_set_id();
    assert_ne!(id, 0, "0 means none");
    driver.nic.core.count(id, |counters| {
        counters.rx_write_requests = 1;
        counters.out_of_buffer = 2;
        counters.local_ack_timeout_err = 3;
        counters.roce_slow_restart_trans = 4;
    });
    let mut query = input(Opcode::QueryQCounter, 0, QueryQCounterIn::SIZE);
    QueryQCounterIn::new(&mut query)
        .set_counter_set_id(id)
        .set_clear(true);
    let output = driver.ok(&query);
    let word = |at: usize| output[at..at + 4].to_vec();
    assert_eq!(word(0x10), [0, 0, 0, 1]);
    assert_eq!(word(0x30), [0, 0, 0, 2]);
    assert_eq!(word(0x60), [0, 0, 0, 3]);
    assert_eq!(word(0xd8), [0, 0, 0, 4]);
    let cleared = driver.ok(&query);
    assert_eq!(QueryQCounterOut::new(&cleared).out_of_buffer(), 0);

    driver.ok(&by_number(Opcode::DeallocQCounter, u32::from(id)));
    assert_eq!(driver.refused(&query), (Status::BadRes, 1));
    let again = by_number(Opcode::DeallocQCounter, u32::from(id));
    assert_eq!(driver.refused(&again), (Status::BadRes, 1));
    // Queues may outlive their counters.
    driver
        .nic
        .core
        .count(id, |counters| counters.out_of_buffer = 1);
}

#[test]
fn vport_counters_are_read_and_cleared() {
    let mut driver = Driver::initialized();
    driver
        .nic
        .core
        .vport_counters
        .received_ib_unicast
        .count(100);
    driver
        .nic
        .core
        .vport_counters
        .transmitted_eth_multicast
        .count(60);
    let mut query = input(Opcode::QueryVportCounter, 0, QueryVportCounterIn::SIZE);
    QueryVportCounterIn::new(&mut query).set_clear(true);
    let output = driver.ok(&query);
    let counters = QueryVportCounterOut::new(&output);
    let (received, sent) = (
        counters.received_ib_unicast(),
        counters.transmitted_eth_multicast(),
    );
    assert_eq!((received.packets(), received.octets()), (1, 100));
    assert_eq!((sent.packets(), sent.octets()), (1, 60));
    let output = driver.ok(&query);
    assert_eq!(
        QueryVportCounterOut::new(&output)
            .received_ib_unicast()
            .packets(),
        0
    );
}

#[test]
fn refused_commands_are_counted() {
    let mut driver = Driver::initialized();
    driver.refused(&by_number(Opcode::DeallocPd, 77));
    driver.refused(&by_number(Opcode::DeallocPd, 78));
    let output = driver.bare(Opcode::QueryVnicEnv);
    assert_eq!(
        QueryVnicEnvOut::new(&output).vport_env().invalid_command(),
        2
    );
}
