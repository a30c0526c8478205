//! Shared receive queues of all three kinds.

use rocinante_firmware_cmd::mlx5::srq::{
    ArmXrcSrqIn, CreateSrqIn, CreateSrqOut, CreateXrcSrqIn, CreateXrcSrqOut, QueryXrcSrqOut,
};
use rocinante_firmware_cmd::mlx5::wq::{CreateRmpIn, CreateRmpOut, ModifyRmpIn, QueryRmpOut};

use super::*;
use crate::mlx5::srq::SrqKind;

/// A driver with one of everything that an SRQ needs.
struct Setup {
    driver: Driver,
    pd: u32,
    cqn: u32,
    xrcd: u32,
    record: u64,
    page: u64,
    events: u64,
}

impl Setup {
    fn new() -> Setup {
        let mut driver = Driver::initialized();
        let uar = driver.uar();
        let events = driver.page();
        let output = driver.ok(&create_eq(uar, 0, 1 << 0x14, events));
        let eqn = u32::from(CreateEqOut::new(&output).eq_number());
        let cqn = driver.cq(uar, eqn);
        let (pd, xrcd) = (driver.pd(), driver.xrcd());
        let (record, page) = (driver.page(), driver.page());
        Setup {
            driver,
            pd,
            cqn,
            xrcd,
            record,
            page,
            events,
        }
    }

    /// CREATE_RMP of 64 WQEs of 64 bytes.
    fn rmp(&self) -> Vec<u8> {
        let mut create = input(Opcode::CreateRmp, 0, CreateRmpIn::SIZE + 8);
        let mut view = CreateRmpIn::new(&mut create);
        let mut rmpc = view.rmpc_mut();
        rmpc.set_state(1);
        let mut wq = rmpc.wq_mut();
        wq.set_pd(self.pd)
            .set_dbr_addr(self.record)
            .set_log_wq_sz(6)
            .set_log_wq_stride(6);
        wq.pas_mut().set(0, self.page);
        create
    }

    /// CREATE_XRC_SRQ of the same shape.
    fn xrc(&self) -> Vec<u8> {
        let mut create = input(Opcode::CreateXrcSrq, 0, CreateXrcSrqIn::SIZE + 8);
        let mut view = CreateXrcSrqIn::new(&mut create);
        view.xrc_srqc_mut()
            .set_log_xrc_srq_size(6)
            .set_log_rq_stride(2)
            .set_xrcd(self.xrcd)
            .set_cqn(self.cqn)
            .set_pd(self.pd)
            .set_user_index(0x1234)
            .set_db_record_addr_l((self.record >> 2) as u32);
        view.pas_mut().set(0, self.page);
        create
    }

    fn post(&self, wqes: u32) {
        self.driver
            .nic
            .core
            .mem
            .write(self.record, &wqes.to_be_bytes())
            .unwrap();
    }
}

#[test]
fn bad_shared_receive_queues_are_refused() {
    let mut setup = Setup::new();
    let change_rmp = |change: &dyn Fn(&mut CreateRmpIn<&mut Vec<u8>>)| {
        let mut create = setup.rmp();
        change(&mut CreateRmpIn::new(&mut create));
        create
    };
    let change_xrc = |change: &dyn Fn(&mut CreateXrcSrqIn<&mut Vec<u8>>)| {
        let mut create = setup.xrc();
        change(&mut CreateXrcSrqIn::new(&mut create));
        create
    };
    let refusals = [
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_pd(99)),
            Status::BadRes,
            1,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_log_wq_sz(16)),
            Status::BadParam,
            2,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_log_wq_sz(7)),
            Status::BadInpLen,
            3,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_page_offset(1)),
            Status::BadInpLen,
            3,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_log_wq_stride(3)),
            Status::BadParam,
            4,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_dbr_addr(2)),
            Status::BadParam,
            4,
        ),
        (
            change_rmp(&|c| _ = c.rmpc_mut().wq_mut().set_wq_type(2)),
            Status::BadParam,
            6,
        ),
        (
            change_xrc(&|c| _ = c.xrc_srqc_mut().set_pd(99)),
            Status::BadRes,
            1,
        ),
        (
            change_xrc(&|c| _ = c.xrc_srqc_mut().set_log_xrc_srq_size(15)),
            Status::BadInpLen,
            3,
        ),
        (
            change_xrc(&|c| _ = c.xrc_srqc_mut().set_cqn(0)),
            Status::BadRes,
            6,
        ),
        (
            change_xrc(&|c| _ = c.xrc_srqc_mut().set_cqn(99)),
            Status::BadRes,
            6,
        ),
        (
            change_xrc(&|c| _ = c.xrc_srqc_mut().set_xrcd(99)),
            Status::BadRes,
            7,
        ),
        (
            change_xrc(&|c| _ = c.set_xrc_srq_umem_valid(true)),
            Status::BadParam,
            8,
        ),
    ];
    for (create, status, check) in refusals {
        assert_eq!(setup.driver.refused(&create), (status, check));
    }
    assert!(setup.driver.nic.core.srqs.is_empty());
}

#[test]
fn shared_receive_queues_hold_what_they_use_and_share_one_number_space() {
    let mut setup = Setup::new();
    let (rmp, xrc) = (setup.rmp(), setup.xrc());
    let Setup {
        pd,
        cqn,
        xrcd,
        ref mut driver,
        ..
    } = setup;
    let rmpn = CreateRmpOut::new(&driver.ok(&rmp)).rmpn();
    let srqn = CreateXrcSrqOut::new(&driver.ok(&xrc)).xrc_srqn();
    assert_ne!(rmpn, srqn);
    let srq = driver.nic.core.srqs.get(srqn).unwrap();
    assert_eq!(
        (srq.kind, srq.user_index, srq.cqn),
        (SrqKind::Xrc, 0x1234, cqn)
    );

    let busy = [
        (Opcode::DeallocPd, pd),
        (Opcode::DestroyCq, cqn),
        (Opcode::DeallocXrcd, xrcd),
    ];
    for (opcode, number) in busy {
        assert_eq!(
            driver.refused(&by_number(opcode, number)).0,
            Status::ResBusy,
            "{opcode}"
        );
    }
    // Each kind has its own commands.
    assert_eq!(
        driver.refused(&by_number(Opcode::DestroyRmp, srqn)),
        (Status::BadRes, 1)
    );
    assert_eq!(
        driver.refused(&by_number(Opcode::QueryXrcSrq, rmpn)),
        (Status::BadRes, 1)
    );
    assert_eq!(
        driver.refused(&by_number(Opcode::DestroySrq, rmpn)),
        (Status::BadRes, 1)
    );
    assert!(driver.nic.core.srqs.hold(rmpn), "as a QP does");
    assert_eq!(
        driver.refused(&by_number(Opcode::DestroyRmp, rmpn)),
        (Status::ResBusy, 2)
    );
    driver.nic.core.srqs.release(rmpn);
    driver.ok(&by_number(Opcode::DestroyRmp, rmpn));
    driver.ok(&by_number(Opcode::DestroyXrcSrq, srqn));
    for (opcode, number) in busy {
        driver.ok(&by_number(opcode, number));
    }
}

#[test]
fn limits_are_armed_and_fire_once() {
    let mut setup = Setup::new();
    let (rmp, xrc) = (setup.rmp(), setup.xrc());
    let rmpn = CreateRmpOut::new(&setup.driver.ok(&rmp)).rmpn();
    let srqn = CreateXrcSrqOut::new(&setup.driver.ok(&xrc)).xrc_srqn();
    setup.post(10);

    let mut arm = input(Opcode::ModifyRmp, 0, ModifyRmpIn::SIZE);
    let mut view = ModifyRmpIn::new(&mut arm);
    view.set_rmpn(rmpn).set_rmp_state(1);
    view.bitmask_mut().set_lwm(true);
    view.rmpc_mut().wq_mut().set_lwm(5);
    setup.driver.ok(&arm);
    let output = setup.driver.ok(&by_number(Opcode::QueryRmp, rmpn));
    let query = QueryRmpOut::new(&output);
    assert_eq!((query.rmpc().state(), query.rmpc().wq().lwm()), (1, 5));
    ModifyRmpIn::new(&mut arm).set_rmp_state(3);
    assert_eq!(setup.driver.refused(&arm), (Status::BadResState, 2));

    // More than is posted: the event is due at once, and then the limit is gone.
    let mut arm = input(Opcode::ArmXrcSrq, 1, 16);
    ArmXrcSrqIn::new(&mut arm).set_xrc_srqn(srqn).set_lwm(11);
    setup.driver.ok(&arm);
    let event = eqe(&setup.driver.nic, setup.events, 0);
    assert_eq!(
        (event[1], &event[0x38..0x3c]),
        (0x14, &srqn.to_be_bytes()[..])
    );
    let output = setup.driver.ok(&by_number(Opcode::QueryXrcSrq, srqn));
    let query = QueryXrcSrqOut::new(&output);
    let srqc = query.xrc_srqc();
    assert_eq!((srqc.state(), srqc.lwm(), srqc.wqe_cnt()), (0, 0, 10));
    assert_eq!(eqe(&setup.driver.nic, setup.events, 1), [0; 64]);
}

#[test]
fn basic_queues_of_issi_0() {
    let mut setup = Setup::new();
    let mut create = input(Opcode::CreateSrq, 0, CreateSrqIn::SIZE + 8);
    let mut view = CreateSrqIn::new(&mut create);
    view.srqc_mut()
        .set_log_srq_size(6)
        .set_log_rq_stride(2)
        .set_pd(setup.pd)
        .set_xrcd(setup.xrcd)
        .set_cqn(setup.cqn)
        .set_dbr_addr(setup.record);
    view.pas_mut().set(0, setup.page);
    let srqn = CreateSrqOut::new(&setup.driver.ok(&create)).srqn();
    setup.driver.ok(&by_number(Opcode::QuerySrq, srqn));
    setup.driver.ok(&by_number(Opcode::ArmRq, srqn));
    setup.driver.ok(&by_number(Opcode::DestroySrq, srqn));
    assert_eq!(
        setup.driver.refused(&by_number(Opcode::ArmRq, srqn)),
        (Status::BadRes, 1)
    );
    let pd = setup.pd;
    setup.driver.ok(&by_number(Opcode::DeallocPd, pd));
}
