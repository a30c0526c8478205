//! Registers as the drivers read and write them.

use rocinante_firmware_cmd::mlx5::registers::counters::Ppcnt;
use rocinante_firmware_cmd::mlx5::registers::management::{Mcam, Mtmp};
use rocinante_firmware_cmd::mlx5::registers::port::Pplm;
use rocinante_wire::MacAddr;

use super::*;
use crate::mlx5::core::NicConfig;

fn nic() -> Nic {
    let mac = MacAddr::new(2, 0, 0, 0, 0, 1);
    let mut nic = Nic::new(NicConfig {
        mac,
        name: "left".into(),
        vectors: 8,
    });
    port::set_physical(&mut nic.core, true);
    nic
}

/// ACCESS_REG with `data`; the register data of the answer.
fn access(nic: &mut Nic, op_mod: u16, id: u16, data: &[u8]) -> Result<Vec<u8>, CmdError> {
    let mut input = vec![0; HEADER];
    input[10..12].copy_from_slice(&id.to_be_bytes());
    input.extend(data);
    let mut output = vec![0; HEADER];
    access_reg(nic, op_mod, &input, &mut output).map(|()| output.split_off(HEADER))
}

fn ptys_request() -> [u8; 0x40] {
    let mut bytes = [0; 0x40];
    Ptys::new(&mut bytes).set_local_port(1).set_proto_mask(4);
    bytes
}

#[test]
fn the_speed_is_100g_while_the_link_is_up_and_none_while_it_is_down() {
    let mut nic = nic();
    let answer = access(&mut nic, READ, 0x5004, &ptys_request()).unwrap();
    let ptys = Ptys::new(&answer);
    assert_eq!(
        (ptys.eth_proto_oper(), ptys.data_rate_oper()),
        (1 << 20, 1000)
    );
    assert_eq!(ptys.eth_proto_capability(), 0x4810_1040);
    assert_eq!((ptys.local_port(), ptys.proto_mask()), (1, 4));

    let mut down = [0; 16];
    Paos::new(&mut down)
        .set_local_port(1)
        .set_admin_status(2)
        .set_ase(true);
    let answer = access(&mut nic, WRITE, 0x5006, &down).unwrap();
    assert_eq!(Paos::new(&answer).oper_status(), 2);
    assert!(!nic.core.port.link_up());
    let answer = access(&mut nic, READ, 0x5004, &ptys_request()).unwrap();
    assert_eq!(Ptys::new(&answer).eth_proto_oper(), 0);
    let answer = access(&mut nic, READ, 0x5006, &[0, 1, 0, 0]).unwrap();
    assert_eq!(
        (
            Paos::new(&answer).admin_status(),
            Paos::new(&answer).oper_status()
        ),
        (2, 2)
    );
    Paos::new(&mut down).set_admin_status(3);
    assert_eq!(access(&mut nic, WRITE, 0x5006, &down), Err(STATUS));
    Paos::new(&mut down).set_admin_status(1);
    access(&mut nic, WRITE, 0x5006, &down).unwrap();
    assert!(nic.core.port.link_up());
}

#[test]
fn speeds_can_be_restricted_to_what_the_port_can_do() {
    let mut nic = nic();
    let mut request = ptys_request();
    Ptys::new(&mut request).set_eth_proto_admin(1 << 27 | 1);
    access(&mut nic, WRITE, 0x5004, &request).unwrap();
    let answer = access(&mut nic, READ, 0x5004, &ptys_request()).unwrap();
    assert_eq!(Ptys::new(&answer).eth_proto_oper(), 1 << 27);
    Ptys::new(&mut request).set_eth_proto_admin(1);
    assert_eq!(access(&mut nic, WRITE, 0x5004, &request), Err(SPEED));
}

#[test]
fn the_mtu_reads_back_as_written() {
    let mut nic = nic();
    let mut request = [0; 16];
    Pmtu::new(&mut request)
        .set_local_port(1)
        .set_admin_mtu(9022);
    access(&mut nic, WRITE, 0x5003, &request).unwrap();
    let answer = access(&mut nic, READ, 0x5003, &[0, 1, 0, 0]).unwrap();
    let pmtu = Pmtu::new(&answer);
    assert_eq!(
        (pmtu.max_mtu(), pmtu.admin_mtu(), pmtu.oper_mtu()),
        (MAX_MTU, 9022, 9022)
    );
    Pmtu::new(&mut request).set_admin_mtu(MAX_MTU + 1);
    assert_eq!(access(&mut nic, WRITE, 0x5003, &request), Err(MTU));
    Pmtu::new(&mut request).set_local_port(2);
    assert_eq!(access(&mut nic, WRITE, 0x5003, &request), Err(PORT));
    assert_eq!(access(&mut nic, WRITE, 0x5003, &request[..8]), Err(SHORT));
}

#[test]
fn what_freebsd_reads_at_attach_is_there() {
    let mut nic = nic();
    // MTCAP comes without register data.
    assert_eq!(access(&mut nic, READ, 0x9009, &[]).unwrap(), [0; 16]);
    assert_eq!(
        access(&mut nic, READ, 0x500c, &[0; 100]).unwrap().len(),
        0x6c
    );
    assert_eq!(
        &access(&mut nic, READ, 0x6001, &[0; 64]).unwrap()[..5],
        b"left\0"
    );
    let text = [b'x'; 64];
    access(&mut nic, WRITE, 0x6001, &text).unwrap();
    assert_eq!(access(&mut nic, READ, 0x6001, &[0; 64]).unwrap(), text);
    access(&mut nic, WRITE, 0x7004, &[0x80; 16]).unwrap();
    assert!(nic.core.port.host_big_endian);
    let mut pause = [0; 0x20];
    Pfcc::new(&mut pause)
        .set_local_port(1)
        .set_pptx(true)
        .set_pprx(true);
    access(&mut nic, WRITE, 0x5007, &pause).unwrap();
    assert_eq!(
        access(&mut nic, READ, 0x5007, &[0, 1, 0, 0]).unwrap(),
        pause
    );
    for group in 0..3 {
        let answer = access(&mut nic, READ, 0x9051, &[0, 0, 0, group]).unwrap();
        assert_eq!((answer.len(), &answer[8..16]), (0x100, &[0; 8][..]));
    }
    assert_eq!(access(&mut nic, READ, 0x9014, &[0; 16]).unwrap()[3], 1);
}

#[test]
fn capability_masks_announce_what_is_there() {
    let mut nic = nic();
    let answer = access(&mut nic, READ, 0x507f, &[0; 0x50]).unwrap();
    let pcam = Pcam::new(&answer);
    assert_eq!(
        answer[0x08..0x18],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xde]
    );
    assert!(pcam.port_access_reg_cap_mask().ppcnt());
    assert!(!pcam.feature_cap_mask().ptys_extended_ethernet());
    // MCQI and MCQS, but neither MCDA nor MCC, without which there is no firmware update.
    let mut expected = [0; 0x40];
    expected[3] = 0b0011;
    let answer = access(&mut nic, READ, 0x907f, &[0; 0x48]).unwrap();
    assert_eq!(answer[8..], expected);
    assert_eq!(access(&mut nic, READ, 0x9060, &[0; 16]).unwrap()[7], 1);
    assert_eq!(
        access(&mut nic, READ, 0x9061, &[0; 24]).unwrap().len(),
        0x94
    );
    for id in [0x9062, 0x9063] {
        assert_eq!(access(&mut nic, WRITE, id, &[0; 32]), Err(UNKNOWN));
    }
    let mut group2 = [0; 0x48];
    Mcam::new(&mut group2).set_access_reg_group(2);
    let answer = access(&mut nic, READ, 0x907f, &group2).unwrap();
    assert_eq!(Mcam::new(&answer).access_reg_group(), 2);
    assert_eq!(answer[8..], [0; 0x40]);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut nic = nic();
    for id in [0, 0x5000, 0x5031, 0x9028, 0xffff] {
        assert_eq!(
            access(&mut nic, READ, id, &[0; 64]),
            Err(UNKNOWN),
            "{id:#x}"
        );
    }
    assert_eq!(
        access(&mut nic, READ, 0x5023, &[0; Pplm::SIZE]),
        Err(UNKNOWN)
    );
    assert_eq!(
        access(&mut nic, READ, 0x900a, &[0; Mtmp::SIZE]),
        Err(SENSOR)
    );
    assert_eq!(access(&mut nic, WRITE, 0x5002, &[0; 0x40]), Err(READ_ONLY));
    assert_eq!(access(&mut nic, 2, 0x5002, &[0; 0x40]), Err(METHOD));
}

#[test]
fn port_counters_appear_where_freebsd_reads_them_by_position() {
    let mut nic = nic();
    nic.core.port.counters.received.count(&[0xff; 6], 60);
    nic.core
        .port
        .counters
        .transmitted
        .count(&[2, 0, 0, 0, 0, 1], 1514);
    let mut read = |group: u8, prio: u8| {
        let mut request = [0; 16];
        Ppcnt::new(&mut request)
            .set_local_port(1)
            .set_grp(group)
            .set_prio_tc(prio);
        access(&mut nic, READ, 0x5008, &request).unwrap()
    };
    let at = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let ieee = read(0, 0);
    assert_eq!(
        (at(&ieee, 0x08), at(&ieee, 0x10), at(&ieee, 0x28)),
        (1, 1, 1514)
    );
    assert_eq!(at(&ieee, 0x50), 1);
    assert_eq!(at(&read(1, 0), 0x08), 64);
    assert_eq!(at(&read(2, 0), 0x60), 1);
    assert_eq!(at(&read(0x10, 0), 0x50), 1);
    assert_eq!(at(&read(0x10, 1), 0x50), 0);
    assert_eq!(read(0x3f, 0)[8..], [0; 0xf8]);
}
