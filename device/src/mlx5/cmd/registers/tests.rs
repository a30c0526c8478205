//! Registers as the drivers read and write them.

use rocinante_firmware_cmd::mlx5::registers::counters::Ppcnt;
use rocinante_firmware_cmd::mlx5::registers::management::{Mcam, Mcia, Mlcr, Mtmp};
use rocinante_firmware_cmd::mlx5::registers::port::{
    Paos, Pbmc, Pcam, Pcmr, Pddr, Pfcc, Pmtu, Pplm, Pptb, Ptys,
};
use rocinante_firmware_cmd::mlx5::registers::qos::{
    DcbxParam, Qcam, Qetcr, Qpdpm, Qpts, Qtct, Sbcam, Sbcm, Sbpr,
};
use rocinante_wire::MacAddr;

use super::*;
use crate::mlx5::core::{NicConfig, PortManager};
use crate::mlx5::port::{self, MAX_MTU, mode};

fn nic() -> Nic {
    let mac = MacAddr::new(2, 0, 0, 0, 0, 1);
    let mut nic = Nic::new(NicConfig {
        mac,
        name: "left".into(),
        vectors: 8,
        manager: PortManager::Always,
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
    assert_eq!(ptys.eth_proto_capability(), 0xf8f5_f0d3);
    assert_eq!(
        (ptys.an_status(), ptys.eth_proto_lp_advertise()),
        (1, 0x4810_1041)
    );
    assert!(ptys.an_disable_cap() && !ptys.an_disable_admin());
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

fn set_admin(nic: &mut Nic, status: u8) {
    let mut bytes = [0; 16];
    Paos::new(&mut bytes)
        .set_local_port(1)
        .set_admin_status(status)
        .set_ase(true);
    access(nic, WRITE, 0x5006, &bytes).unwrap();
}

fn link(nic: &mut Nic) -> (u32, u8) {
    let answer = access(nic, READ, 0x5004, &ptys_request()).unwrap();
    let ptys = Ptys::new(&answer);
    (ptys.eth_proto_oper(), ptys.an_status())
}

/// What Linux does for `ethtool -s eth0 speed 25000 autoneg off`, bytes and all.
#[test]
fn a_speed_is_forced_by_closing_and_opening_the_port() {
    let mut nic = nic();
    let mut request = [0; 0x40];
    // local_port 1, Ethernet, an_disable_admin; 25G CR, KR and SR.
    request[..4].copy_from_slice(&[0x40, 1, 0, 4]);
    request[0x18..0x1c].copy_from_slice(&[0x38, 0, 0, 0]);
    access(&mut nic, WRITE, 0x5004, &request).unwrap();
    assert_eq!(link(&mut nic), (mode::CR4_100G, 1));
    set_admin(&mut nic, 2);
    assert_eq!(link(&mut nic), (0, 4));
    set_admin(&mut nic, 1);
    assert_eq!(link(&mut nic), (mode::CR_25G, 3));
    assert_eq!(nic.core.port.counters.link_down_events, 1);
    let answer = access(&mut nic, READ, 0x5004, &ptys_request()).unwrap();
    let ptys = Ptys::new(&answer);
    assert_eq!(
        (ptys.eth_proto_admin(), ptys.data_rate_oper()),
        (0x3800_0000, 250)
    );
    assert!(ptys.an_disable_admin());
    assert_eq!(ptys.eth_proto_lp_advertise(), 0);
    // And back, with all modes.
    Ptys::new(&mut request)
        .set_an_disable_admin(false)
        .set_eth_proto_admin(u32::MAX);
    access(&mut nic, WRITE, 0x5004, &request).unwrap();
    set_admin(&mut nic, 2);
    set_admin(&mut nic, 1);
    assert_eq!(link(&mut nic), (mode::CR4_100G, 1));
    // Bits that are no modes of this port, and modes of InfiniBand.
    Ptys::new(&mut request).set_eth_proto_admin(1 << 2 | 1 << 24);
    assert_eq!(access(&mut nic, WRITE, 0x5004, &request), Err(SPEED));
    Ptys::new(&mut request).set_proto_mask(1);
    assert_eq!(access(&mut nic, WRITE, 0x5004, &request), Err(SPEED));
}

#[test]
fn a_port_without_a_link_says_why() {
    let mut nic = nic();
    let mut request = [0; 0x100];
    Pddr::new(&mut request).set_local_port(1).set_page_select(1);
    let why = |nic: &mut Nic| {
        let answer = access(nic, READ, 0x5031, &request).unwrap();
        let text = String::from_utf8(answer[0x18..0x100].to_vec()).unwrap();
        (
            answer[0x0e],
            answer[0x0f],
            text.trim_end_matches('\0').to_owned(),
        )
    };
    assert_eq!(why(&mut nic), (0, 0, "No issue was observed.".to_owned()));
    set_admin(&mut nic, 2);
    assert_eq!(why(&mut nic).1, 1);
    set_admin(&mut nic, 1);
    port::set_physical(&mut nic.core, false);
    assert_eq!(why(&mut nic).1, 2);
    Pddr::new(&mut request).set_page_select(9);
    assert_eq!(access(&mut nic, READ, 0x5031, &request), Err(PAGE));
}

#[test]
fn error_correction_is_what_was_asked_for() {
    let mut nic = nic();
    let mut request = [0; 0x50];
    Pplm::new(&mut request).set_local_port(1);
    let answer = access(&mut nic, READ, 0x5023, &request).unwrap();
    // Active RS; 100G none or RS, 50G and 25G any of three, 10G and 40G none or Firecode.
    assert_eq!(answer[0x0c..0x14], [0, 0, 0, 4, 0, 0, 0x57, 0x73]);
    Pplm::new(&mut request).set_fec_override_admin_100g(1);
    access(&mut nic, WRITE, 0x5023, &request).unwrap();
    set_admin(&mut nic, 2);
    set_admin(&mut nic, 1);
    let answer = access(&mut nic, READ, 0x5023, &[0, 1, 0, 0]).unwrap();
    let pplm = Pplm::new(&answer);
    assert_eq!(
        (pplm.fec_mode_active(), pplm.fec_override_admin_100g()),
        (1, 1)
    );
    // As long as FreeBSD's.
    access(&mut nic, WRITE, 0x5023, &request[..0x28]).unwrap();
    Pplm::new(&mut request).set_fec_override_admin_100g(2);
    assert_eq!(access(&mut nic, WRITE, 0x5023, &request), Err(FEC));
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
    let mut one_sensor = [0; 16];
    (one_sensor[3], one_sensor[15]) = (1, 1);
    assert_eq!(access(&mut nic, READ, 0x9009, &[]).unwrap(), one_sensor);
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
    for group in 0..3 {
        let answer = access(&mut nic, READ, 0x9051, &[0, 0, 0, group]).unwrap();
        assert_eq!((answer.len(), &answer[8..16]), (0x100, &[0; 8][..]));
    }
}

#[test]
fn pause_and_priority_flow_control_are_remembered() {
    let mut nic = nic();
    let show = |nic: &mut Nic| {
        let answer = access(nic, READ, 0x5007, &[0, 1, 0, 0]).unwrap();
        let pfcc = Pfcc::new(&answer);
        (pfcc.pptx(), pfcc.pprx(), pfcc.pfctx(), pfcc.pfcrx())
    };
    assert_eq!(show(&mut nic), (true, true, 0, 0));
    // ethtool -A rx on tx off: everything but pprx is zero.
    let mut pause = [0; 0x20];
    Pfcc::new(&mut pause).set_local_port(1).set_pprx(true);
    access(&mut nic, WRITE, 0x5007, &pause).unwrap();
    assert_eq!(show(&mut nic), (false, true, 0, 0));
    // dcb pfc set prio-pfc 3:on, as Linux does it: pause bits are masked out.
    let mut pfc = [0; 0x20];
    Pfcc::new(&mut pfc)
        .set_local_port(1)
        .set_pptx_mask_n(true)
        .set_pprx_mask_n(true)
        .set_prio_mask_tx(0xff)
        .set_prio_mask_rx(0xff)
        .set_pfctx(8)
        .set_pfcrx(8);
    access(&mut nic, WRITE, 0x5007, &pfc).unwrap();
    assert_eq!(show(&mut nic), (false, false, 8, 8));
    Pfcc::new(&mut pause).set_pptx(true);
    access(&mut nic, WRITE, 0x5007, &pause).unwrap();
    assert_eq!(show(&mut nic), (true, true, 0, 0));
    // FreeBSD writes both at once, with the priorities as their own mask.
    Pfcc::new(&mut pause)
        .set_pptx(false)
        .set_pprx(false)
        .set_pfctx(0x10)
        .set_prio_mask_tx(0x10);
    access(&mut nic, WRITE, 0x5007, &pause).unwrap();
    assert_eq!(show(&mut nic), (false, false, 0x10, 0));
    // Watermarks alone.
    let mut stall = [0; 0x20];
    Pfcc::new(&mut stall)
        .set_local_port(1)
        .set_pptx_mask_n(true)
        .set_pprx_mask_n(true)
        .set_ppan_mask_n(true)
        .set_critical_stall_mask(true)
        .set_minor_stall_mask(true)
        .set_device_stall_minor_watermark(7200)
        .set_device_stall_critical_watermark(8000);
    access(&mut nic, WRITE, 0x5007, &stall).unwrap();
    assert_eq!(show(&mut nic), (false, false, 0x10, 0));
    let answer = access(&mut nic, READ, 0x5007, &[0, 1, 0, 0]).unwrap();
    assert_eq!(answer[0x10..0x14], [0x1c, 0x20, 0x1f, 0x40]);
}

#[test]
fn the_module_is_read_by_window() {
    let mut nic = nic();
    let mut read = |module: u8, i2c: u8, page: u8, at: u16, size: u16| {
        let mut request = [0; Mcia::SIZE];
        Mcia::new(&mut request)
            .set_module(module)
            .set_i2c_device_address(i2c)
            .set_page_number(page)
            .set_device_address(at)
            .set_size(size);
        access(&mut nic, READ, 0x9014, &request).map(|answer| (answer[3], answer[0x10..].to_vec()))
    };
    let (status, data) = read(0, 0x50, 0, 148, 48).unwrap();
    assert_eq!((status, &data[..16]), (0, &b"Rocinante       "[..]));
    assert_eq!(data[48..], [0; 0x50]);
    assert_eq!(read(0, 0x50, 0, 208, 48).unwrap().0, 0);
    assert_eq!(read(0, 0x50, 0, 0, 1).unwrap().1[0], 0x11);
    // No thermometer at the other address, no page 1, no second module, nothing behind the end.
    assert_eq!(read(0, 0x51, 0, 0, 1).unwrap().0, 1);
    assert_eq!(read(0, 0x50, 1, 128, 1).unwrap().0, 1);
    assert_eq!(read(1, 0x50, 0, 0, 1).unwrap().0, 3);
    assert_eq!(read(0, 0x50, 0, 209, 48).unwrap().0, 9);
    assert_eq!(read(0, 0x50, 0, u16::MAX, 48).unwrap().0, 9);
    assert_eq!(read(0, 0x50, 0, 0, 49), Err(MODULE_SIZE));
    assert_eq!(read(0, 0x50, 0, 0, u16::MAX), Err(MODULE_SIZE));
}

#[test]
fn the_sensor_of_the_chip_is_there_and_that_of_the_cable_is_cold() {
    let mut nic = nic();
    let answer = access(&mut nic, READ, 0x900a, &[0; Mtmp::SIZE]).unwrap();
    let mtmp = Mtmp::new(&answer);
    assert_eq!((mtmp.temperature(), mtmp.max_temperature()), (360, 0));
    assert_eq!(&answer[0x18..], b"asic\0\0\0\0");
    // As Linux keeps the maximum: what it read, with `mte`.
    let mut keep = answer.clone();
    Mtmp::new(&mut keep).set_mte(true);
    access(&mut nic, WRITE, 0x900a, &keep).unwrap();
    let answer = access(&mut nic, READ, 0x900a, &[0; Mtmp::SIZE]).unwrap();
    assert_eq!(Mtmp::new(&answer).max_temperature(), 360);
    let mut module = [0; Mtmp::SIZE];
    Mtmp::new(&mut module).set_sensor_index(64);
    let answer = access(&mut nic, READ, 0x900a, &module).unwrap();
    assert_eq!(Mtmp::new(&answer).temperature(), 0);
    assert_eq!(&answer[0x18..], b"Module0\0");
}

#[test]
fn priorities_and_traffic_classes_are_remembered() {
    let mut nic = nic();
    let mut dscp = [0; Qpdpm::SIZE];
    // DSCP 10 to priority 5, as `dcb app` of Linux writes it, and nothing about the others.
    dscp[1] = 1;
    (dscp[4 + 20], dscp[4 + 21]) = (0x80, 5);
    access(&mut nic, WRITE, 0x4013, &dscp).unwrap();
    let answer = access(&mut nic, READ, 0x4013, &[0, 1, 0, 0]).unwrap();
    assert_eq!(answer[4 + 18..4 + 24], [0, 1, 0, 5, 0, 1]);
    let mut trust = [0; 8];
    Qpts::new(&mut trust).set_local_port(1).set_trust_state(2);
    access(&mut nic, WRITE, 0x4002, &trust).unwrap();
    assert_eq!(access(&mut nic, READ, 0x4002, &[0, 1]).unwrap(), trust);
    Qpts::new(&mut trust).set_trust_state(3);
    assert_eq!(access(&mut nic, WRITE, 0x4002, &trust), Err(TRUST));

    let mut class = [0; 8];
    Qtct::new(&mut class).set_prio(3).set_tclass(4);
    access(&mut nic, WRITE, 0x400a, &class).unwrap();
    assert_eq!(access(&mut nic, READ, 0x400a, &[0, 1, 0, 3]).unwrap()[7], 4);
    assert_eq!(access(&mut nic, READ, 0x400a, &[0, 1, 0, 2]).unwrap()[7], 0);

    // Groups in one write, bandwidth in another; class 2 gets 30 percent.
    let mut groups = [0; Qetcr::SIZE];
    Qetcr::new(&mut groups)
        .tc_configuration_mut()
        .get_mut(2)
        .set_g(true)
        .set_group(9);
    access(&mut nic, WRITE, 0x4005, &groups).unwrap();
    let mut bandwidth = [0; Qetcr::SIZE];
    Qetcr::new(&mut bandwidth)
        .tc_configuration_mut()
        .get_mut(2)
        .set_b(true)
        .set_bw_allocation(30);
    access(&mut nic, WRITE, 0x4005, &bandwidth).unwrap();
    let answer = access(&mut nic, READ, 0x4005, &[0; Qetcr::SIZE]).unwrap();
    assert_eq!(answer[0x18..0x20], [0, 9, 0, 30, 0, 0, 0, 0]);
    assert_eq!(answer[0x20..0x28], [0, 3, 0, 100, 0, 0, 0, 0]);
    Qetcr::new(&mut bandwidth)
        .tc_configuration_mut()
        .get_mut(2)
        .set_bw_allocation(101);
    assert_eq!(access(&mut nic, WRITE, 0x4005, &bandwidth), Err(BANDWIDTH));

    let mut dcbx = [0; DcbxParam::SIZE];
    DcbxParam::new(&mut dcbx)
        .set_port_number(1)
        .set_version_admin(3);
    access(&mut nic, WRITE, 0x4020, &dcbx).unwrap();
    let answer = access(&mut nic, READ, 0x4020, &[0, 1]).unwrap();
    let shown = DcbxParam::new(&answer);
    assert_eq!((shown.version_oper(), shown.version_admin()), (3, 3));
    DcbxParam::new(&mut dcbx).set_version_admin(1);
    assert_eq!(access(&mut nic, WRITE, 0x4020, &dcbx), Err(DCBX));
}

#[test]
fn buffers_are_remembered_as_far_as_they_fit() {
    let mut nic = nic();
    let mut pptb = [0; 0xc];
    // Priorities 0 and 3 to buffer 1; the others are not meant.
    Pptb::new(&mut pptb)
        .set_local_port(1)
        .set_pm(0b1001)
        .set_prio_x_buff(0x7777_1771);
    access(&mut nic, WRITE, 0x500b, &pptb).unwrap();
    let answer = access(&mut nic, READ, 0x500b, &[0, 1]).unwrap();
    assert_eq!(Pptb::new(&answer).prio_x_buff(), 0x1001);
    Pptb::new(&mut pptb).set_prio_x_buff(8);
    assert_eq!(access(&mut nic, WRITE, 0x500b, &pptb), Err(BUFFER));

    let mut pbmc = access(&mut nic, READ, 0x500c, &[0, 1]).unwrap();
    assert_eq!(Pbmc::new(&pbmc).port_buffer_size(), 2048);
    let mut view = Pbmc::new(&mut pbmc);
    view.set_port_buffer_size(0);
    view.buffer_mut()
        .get_mut(1)
        .set_size(1024)
        .set_lossy(false)
        .set_xoff_threshold(700)
        .set_xon_threshold(600);
    access(&mut nic, WRITE, 0x500c, &pbmc).unwrap();
    let answer = access(&mut nic, READ, 0x500c, &[0, 1]).unwrap();
    assert_eq!(answer[0x14..0x1c], [0, 0, 4, 0, 2, 188, 2, 88]);
    access(&mut nic, WRITE, 0x500c, &pbmc[..0x64]).unwrap();
    assert_eq!(access(&mut nic, READ, 0x500c, &[0, 1]).unwrap(), answer);
    assert_eq!(access(&mut nic, WRITE, 0x500c, &pbmc[..0x48]), Err(SHORT));
    let mut too_large = pbmc.clone();
    Pbmc::new(&mut too_large)
        .buffer_mut()
        .get_mut(2)
        .set_size(1);
    assert_eq!(
        access(&mut nic, WRITE, 0x500c, &too_large),
        Err(BUFFER_SIZE)
    );
    Pbmc::new(&mut pbmc)
        .buffer_mut()
        .get_mut(1)
        .set_xoff_threshold(1025);
    assert_eq!(access(&mut nic, WRITE, 0x500c, &pbmc), Err(BUFFER_SIZE));

    let answer = access(&mut nic, READ, 0xb01f, &[0; Sbcam::SIZE]).unwrap();
    assert_eq!(Sbcam::new(&answer).cap_cell_size(), 128);
    let mut pool = [0; Sbpr::SIZE];
    Sbpr::new(&mut pool)
        .set_dir(1)
        .set_pool(1)
        .set_size(5)
        .set_mode(1);
    access(&mut nic, WRITE, 0xb001, &pool).unwrap();
    assert_eq!(access(&mut nic, READ, 0xb001, &pool[..4]).unwrap(), pool);
    Sbpr::new(&mut pool).set_pool(2);
    assert_eq!(access(&mut nic, WRITE, 0xb001, &pool), Err(BUFFER));
    let mut share = [0; Sbcm::SIZE];
    Sbcm::new(&mut share)
        .set_local_port(1)
        .set_pg_buff(7)
        .set_max_buff(13)
        .set_pool(1);
    access(&mut nic, WRITE, 0xb002, &share).unwrap();
    assert_eq!(access(&mut nic, READ, 0xb002, &share[..4]).unwrap(), share);
    Sbcm::new(&mut share).set_pg_buff(10);
    assert_eq!(access(&mut nic, READ, 0xb002, &share), Err(BUFFER));
}

#[test]
fn the_led_blinks_as_long_as_it_is_told() {
    let mut nic = nic();
    let remain = |nic: &mut Nic| {
        let answer = access(nic, READ, 0x902b, &[0, 1]).unwrap();
        Mlcr::new(&answer).beacon_remain()
    };
    let set = |nic: &mut Nic, duration: u16| {
        let mut request = [0; Mlcr::SIZE];
        Mlcr::new(&mut request)
            .set_local_port(1)
            .set_beacon_duration(duration);
        access(nic, WRITE, 0x902b, &request).unwrap();
    };
    set(&mut nic, 0xffff);
    assert_eq!(remain(&mut nic), 0xffff);
    set(&mut nic, 20);
    nic.core.now += std::time::Duration::from_millis(1500);
    assert_eq!(remain(&mut nic), 19);
    nic.core.now += std::time::Duration::from_secs(60);
    assert_eq!(remain(&mut nic), 0);
    set(&mut nic, 0);
    assert_eq!(remain(&mut nic), 0);
}

#[test]
fn checks_of_the_port_can_be_switched_off() {
    let mut nic = nic();
    let mut pcmr = access(&mut nic, READ, 0x5041, &[0, 1]).unwrap();
    assert_eq!(pcmr[4..], [0, 0, 0, 2, 0, 0, 0, 2]);
    Pcmr::new(&mut pcmr).set_fcs_chk(false);
    access(&mut nic, WRITE, 0x5041, &pcmr).unwrap();
    let answer = access(&mut nic, READ, 0x5041, &[0, 1]).unwrap();
    assert_eq!(answer[8..], [0, 0, 0, 0]);
}

#[test]
fn capability_masks_announce_what_is_there() {
    let mut nic = nic();
    let answer = access(&mut nic, READ, 0x507f, &[0; 0x50]).unwrap();
    let pcam = Pcam::new(&answer);
    assert_eq!(
        answer[0x08..0x18],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x19, 0xde]
    );
    assert!(pcam.port_access_reg_cap_mask().ppcnt());
    assert!(!pcam.feature_cap_mask().ptys_extended_ethernet());
    // MCQI and MCQS, but neither MCDA nor MCC, without which there is no firmware update; MTMP;
    // three groups of PCIe counters.
    let mut expected = [0; 0x40];
    expected[3] = 0b0011;
    expected[0xe] = 0b100;
    expected[0x2f] = 0b1_1001;
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
    let answer = access(&mut nic, READ, 0x4019, &[0; Qcam::SIZE]).unwrap();
    assert_eq!(answer[0x14..0x18], [0, 8, 0, 4]);
    let mut group2 = [0; 0x48];
    Mcam::new(&mut group2)
        .set_access_reg_group(2)
        .set_feature_group(2);
    let answer = access(&mut nic, READ, 0x907f, &group2).unwrap();
    assert_eq!(Mcam::new(&answer).access_reg_group(), 2);
    assert_eq!(answer[8..], [0; 0x40]);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut nic = nic();
    for id in [0, 0x4022, 0x5000, 0x500f, 0x902d, 0x9050, 0xffff] {
        assert_eq!(
            access(&mut nic, READ, id, &[0; 64]),
            Err(UNKNOWN),
            "{id:#x}"
        );
    }
    let mut sensor = [0; Mtmp::SIZE];
    Mtmp::new(&mut sensor).set_sensor_index(1);
    assert_eq!(access(&mut nic, READ, 0x900a, &sensor), Err(SENSOR));
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
        (1, 1, 1518)
    );
    assert_eq!(at(&ieee, 0x50), 1);
    assert_eq!(at(&read(1, 0), 0x08), 64);
    assert_eq!(at(&read(2, 0), 0x60), 1);
    assert_eq!(at(&read(0x10, 0), 0x50), 1);
    assert_eq!(at(&read(0x10, 1), 0x50), 0);
    assert_eq!(read(0x3f, 0)[8..], [0; 0xf8]);
}

#[test]
fn a_reset_of_the_firmware_can_be_asked_for_at_the_levels_that_there_are() {
    let mut nic = nic();
    let levels = access(&mut nic, READ, 0x9028, &[0; 8]).unwrap();
    assert_eq!(levels, [0, 0, 0, 0, 0, 0, 0, 0x48]);
    for level in [0x08, 0x40] {
        access(&mut nic, WRITE, 0x9028, &[0, 0, 0, 0, 0, 0, 0, level]).unwrap();
    }
    for level in [0, 1, 0x48] {
        let asked = access(&mut nic, WRITE, 0x9028, &[0, 0, 0, 0, 0, 0, 0, level]);
        assert_eq!(asked.unwrap_err(), RESET);
    }
}
