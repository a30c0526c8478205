//! States, capabilities, identity, teardown and what it reports, reset.

use rocinante_firmware_cmd::mlx5::caps::general::GeneralCaps;
use rocinante_firmware_cmd::mlx5::hca::{
    DisableHcaIn, EnableHcaIn, QueryAdapterOut, QueryHcaCapOut, QueryIssiOut,
    QuerySpecialContextsOut, SetDriverVersionIn, SetHcaCapIn, TeardownHcaIn,
};

use super::*;
use rocinante_wire::time::Time;

use crate::mlx5::hca::State;
use crate::mlx5::leak::Goodbye;
use crate::mlx5::nic;

fn teardown(profile: u16) -> Vec<u8> {
    let mut input = input(Opcode::TeardownHca, 0, 16);
    TeardownHcaIn::new(&mut input).set_profile(profile);
    input
}

#[test]
fn commands_are_refused_in_the_wrong_state() {
    let mut driver = Driver::new();
    let before_enable = [Opcode::EnableHca, Opcode::DisableHca, Opcode::Nop];
    for &opcode in Opcode::ALL {
        if opcode.command().is_some() && !before_enable.contains(&opcode) {
            let refused = driver.refused(&input(opcode, 0, 0x1010));
            assert_eq!(refused.0, Status::BadSysState, "{opcode}");
        }
    }
    driver.bare(Opcode::EnableHca);
    driver.bare(Opcode::EnableHca);
    for opcode in [
        Opcode::AllocPd,
        Opcode::CreateCq,
        Opcode::CreateMkey,
        Opcode::TeardownHca,
    ] {
        assert_eq!(
            driver.refused(&input(opcode, 0, 0x1010)).0,
            Status::BadSysState,
            "{opcode}"
        );
    }
    driver.bare(Opcode::InitHca);
    for opcode in [Opcode::InitHca, Opcode::SetHcaCap] {
        assert_eq!(
            driver.refused(&input(opcode, 0, 0x1010)).0,
            Status::BadSysState,
            "{opcode}"
        );
    }
    driver.bare(Opcode::AllocPd);
}

#[test]
fn unknown_and_unoffered_commands_are_bad_ops() {
    let mut driver = Driver::initialized();
    for code in [0x000u16, 0x106, 0x50d, 0x710, 0x740, 0x752, 0xa04, 0xffff] {
        let mut input = vec![0; 0x1010];
        Input::new(&mut input).set_opcode(code);
        assert_eq!(driver.refused(&input), (Status::BadOp, 0xfff0), "{code:#x}");
    }
}

#[test]
fn inputs_shorter_than_any_drivers_are_refused() {
    let mut driver = Driver::initialized();
    for &opcode in Opcode::ALL {
        let Some(command) = opcode.command() else {
            continue;
        };
        let short = input(opcode, 0, command.min_input_len - 1);
        let status = driver.refused(&short).0;
        let illegal = matches!(
            opcode,
            Opcode::InitHca | Opcode::SetHcaCap | Opcode::SetIssi
        );
        let expected = if illegal {
            Status::BadSysState
        } else {
            Status::BadInpLen
        };
        assert_eq!(status, expected, "{opcode}");
    }
}

#[test]
fn capabilities_are_queried_and_set() {
    let mut driver = Driver::new();
    driver.bare(Opcode::EnableHca);
    let current = driver.ok(&input(Opcode::QueryHcaCap, 1, 16));
    assert_eq!(current.len(), 0x1010);

    // What FreeBSD does: echo everything, with log_max_qp 17 and drain_sigerr.
    let mut set = input(Opcode::SetHcaCap, 0, SetHcaCapIn::SIZE);
    let mut view = SetHcaCapIn::new(&mut set);
    view.capability_mut()
        .copy_from_slice(QueryHcaCapOut::new(&current).capability());
    GeneralCaps::new(view.capability_mut())
        .set_log_max_qp(17)
        .set_drain_sigerr(true)
        .set_cmdif_checksum(0)
        .set_log_max_cq(31);
    driver.ok(&set);
    let current = driver.ok(&input(Opcode::QueryHcaCap, 1, 16));
    let caps = GeneralCaps::new(QueryHcaCapOut::new(&current).capability());
    assert_eq!((caps.log_max_qp(), caps.drain_sigerr()), (17, true));
    assert_eq!(caps.log_max_cq(), 16, "not writable");
    let max = driver.ok(&input(Opcode::QueryHcaCap, 0, 16));
    assert_eq!(
        GeneralCaps::new(QueryHcaCapOut::new(&max).capability()).log_max_qp(),
        18
    );

    assert_eq!(
        driver.refused(&input(Opcode::QueryHcaCap, 2 << 1, 16)),
        (Status::BadParam, 1)
    );
    assert_eq!(
        driver.refused(&by_number(Opcode::QueryHcaCap, 1)),
        (Status::BadParam, 2)
    );
    let unknown = input(Opcode::SetHcaCap, 2 << 1, SetHcaCapIn::SIZE);
    assert_eq!(driver.refused(&unknown), (Status::BadParam, 1));

    // The next driver starts from the defaults.
    driver.bare(Opcode::DisableHca);
    driver.bare(Opcode::EnableHca);
    let current = driver.ok(&input(Opcode::QueryHcaCap, 1, 16));
    assert_eq!(
        GeneralCaps::new(QueryHcaCapOut::new(&current).capability()).log_max_qp(),
        18
    );
}

#[test]
fn identity() {
    let mut driver = Driver::new();
    driver.bare(Opcode::EnableHca);
    let issi = driver.bare(Opcode::QueryIssi);
    assert_eq!(QueryIssiOut::new(&issi).supported_issi_dw0(), 3);
    assert_eq!(
        driver.refused(&by_number(Opcode::SetIssi, 2)),
        (Status::BadParam, 1)
    );
    driver.ok(&by_number(Opcode::SetIssi, 1));
    let issi = driver.bare(Opcode::QueryIssi);
    assert_eq!(QueryIssiOut::new(&issi).current_issi(), 1);
    let adapter = driver.bare(Opcode::QueryAdapter);
    assert_eq!(&adapter[0x28..0x2c], &[0, 0, 0x02, 0xc9]);
    assert_eq!(
        &QueryAdapterOut::new(&adapter).adapter().vsd_contd_psid()[..3],
        b"RCN"
    );
    driver.bare(Opcode::InitHca);
    let special = driver.bare(Opcode::QuerySpecialContexts);
    assert_eq!(QuerySpecialContextsOut::new(&special).resd_lkey(), 0x500);
    let mut version = input(Opcode::SetDriverVersion, 0, SetDriverVersionIn::SIZE);
    version[16..30].copy_from_slice(b"Linux,mlx5\0\xff\n\x01");
    driver.ok(&version);
    assert_eq!(
        driver.nic.core.hca.driver_version.as_deref(),
        Some("Linux,mlx5")
    );
}

#[test]
fn the_port_is_managed_by_whom_the_user_says_or_by_linux() {
    let manages = |driver: &mut Driver| {
        let output = driver.ok(&input(Opcode::QueryHcaCap, 1, 16));
        QueryHcaCapOut::new(&output).capability()[0x34] & 0x80 != 0
    };
    let mut version = input(Opcode::SetDriverVersion, 0, SetDriverVersionIn::SIZE);
    for (manager, at_first, linux, freebsd) in [
        (PortManager::ForLinux, false, true, false),
        (PortManager::Always, true, true, true),
        (PortManager::Never, false, false, false),
    ] {
        let mut driver = Driver::initialized();
        driver.nic.core.config.manager = manager;
        driver.nic.handle(Time::ZERO, nic::Input::Reset);
        driver.initialize();
        assert_eq!(manages(&mut driver), at_first, "{manager:?}");
        version[16..24].copy_from_slice(b"Linux,ml");
        driver.ok(&version);
        assert_eq!(manages(&mut driver), linux, "{manager:?}");
        version[16..24].copy_from_slice(b"FreeBSD,");
        driver.ok(&version);
        assert_eq!(manages(&mut driver), freebsd, "{manager:?}");
        version[16..24].copy_from_slice(b"Linux,ml");
        driver.ok(&version);
        driver.ok(&teardown(0));
        driver.ok(&input(Opcode::DisableHca, 0, DisableHcaIn::SIZE));
        driver.ok(&input(Opcode::EnableHca, 0, EnableHcaIn::SIZE));
        assert_eq!(manages(&mut driver), at_first, "{manager:?}");
    }
}

#[test]
fn a_clean_unload_says_so() {
    capture_log();
    let mut driver = Driver::initialized();
    let (uar, pd) = (driver.uar(), driver.pd());
    let eqn = driver.eq(uar, 0, 1 << 9);
    driver.ok(&by_number(Opcode::DestroyEq, eqn));
    driver.ok(&by_number(Opcode::DeallocPd, pd));
    driver.ok(&by_number(Opcode::DeallocUar, uar));
    driver.ok(&teardown(0));
    while driver.take(768) > 0 {}
    driver.bare(Opcode::DisableHca);
    let findings = driver.nic.core.hca.findings.clone().unwrap();
    assert_eq!(findings.goodbye, Goodbye::Disable);
    assert_eq!(
        (findings.leaked_objects.as_slice(), findings.leaked_pages),
        (&[][..], 0)
    );
    let lines = logged();
    let clean = "INFO mlx5::leak: nic0: teardown clean: 0 objects, 0 pages left";
    assert!(lines.iter().any(|line| line == clean), "{lines:#?}");
}

#[test]
fn what_is_left_is_reported_and_dropped() {
    capture_log();
    let mut driver = Driver::initialized();
    let uar = driver.uar();
    driver.pd();
    driver.pd();
    driver.eq(uar, 0, 1 << 9);
    driver.ok(&teardown(0));
    let at_teardown = driver.nic.core.hca.findings.clone().unwrap();
    assert_eq!(at_teardown.goodbye, Goodbye::Teardown);
    assert_eq!(
        at_teardown.leaked_objects,
        [("UAR", 1), ("PD", 2), ("EQ", 1)]
    );
    assert_eq!(at_teardown.leaked_pages, 20);
    assert!(driver.nic.core.eqs.table.is_empty());
    driver.take(15);
    driver.bare(Opcode::DisableHca);
    let findings = driver.nic.core.hca.findings.clone().unwrap();
    assert_eq!(findings.goodbye, Goodbye::Disable);
    assert_eq!((findings.objects(), findings.leaked_pages), (4, 5));
    let lines = logged();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("WARN mlx5::leak:")),
        "{lines:#?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("teardown clean")),
        "{lines:#?}"
    );

    // The next driver finds an empty adapter, which may be given the same pages.
    driver.next_page = MEMORY;
    driver.lent.clear();
    driver.initialize();
    assert_eq!(driver.uar(), uar);
}

#[test]
fn disabling_without_teardown_reports_objects_too() {
    let mut driver = Driver::initialized();
    driver.pd();
    driver.bare(Opcode::DisableHca);
    let findings = driver.nic.core.hca.findings.clone().unwrap();
    assert_eq!(findings.leaked_objects, [("PD", 1)]);
    assert!(driver.nic.core.resources.pds.is_empty());
}

#[test]
fn after_a_force_teardown_only_a_reset_helps() {
    for profile in [1, 2] {
        let mut driver = Driver::initialized();
        let (uar, page) = (driver.uar(), driver.page());
        driver.ok(&create_eq(uar, 0, 1 << 9, page));
        let output = driver.ok(&teardown(profile));
        assert_eq!(output[0x0f], 0, "state: success");
        assert_eq!(driver.nic.core.hca.state, State::Stopped);
        // After a fast teardown the driver still waits for the completion event.
        assert_eq!(driver.nic.core.eqs.silenced, profile == 1);
        for &opcode in Opcode::ALL
            .iter()
            .filter(|opcode| opcode.command().is_some())
        {
            assert_eq!(
                driver.refused(&input(opcode, 0, 0x1010)).0,
                Status::BadSysState
            );
        }
        let qps = driver.nic.qps.len();
        driver.nic.core.reset(qps);
        assert_eq!(
            driver.nic.core.hca.findings.as_ref().unwrap().goodbye,
            Goodbye::Reset
        );
        driver.lent.clear();
        driver.initialize();
    }
    assert_eq!(
        Driver::initialized().refused(&teardown(3)),
        (Status::BadParam, 1)
    );
}

#[test]
fn a_reset_keeps_what_is_not_the_adapters() {
    let mut driver = Driver::initialized();
    driver.pd();
    crate::mlx5::port::set_physical(&mut driver.nic.core, true);
    let mac = driver.nic.core.config.mac;
    driver.nic.core.reset(0);
    let core = &driver.nic.core;
    assert_eq!(
        (core.config.mac, core.port.physical_up(), core.bus_master),
        (mac, true, true)
    );
    assert!(core.mem.check(MEMORY, 4096, true).is_ok());
    assert_eq!(
        (core.hca.state, core.hca.pages.owned()),
        (State::Disabled, 0)
    );
    let findings = core.hca.findings.as_ref().unwrap();
    assert_eq!(
        (findings.leaked_objects.as_slice(), findings.leaked_pages),
        (&[("PD", 1)][..], 20)
    );
}
