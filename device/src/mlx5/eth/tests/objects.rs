//! Life and death of Ethernet objects.

use super::*;
use crate::mlx5::cmd::Status;
use crate::mlx5::eth::tir::Disposition;
use rocinante_firmware_cmd::mlx5::flow::{
    AllocFlowCounterOut, DeleteFlowTableEntryIn, DestroyFlowGroupIn, DestroyFlowTableIn,
    ModifyFlowTableIn, QueryFlowCounterIn, QueryFlowCounterOut, SetFlowTableRootIn,
};

fn status(result: Result<Vec<u8>, CmdError>) -> Status {
    result.map_or_else(|error| error.status, |_| Status::Ok)
}

#[test]
fn objects_in_use_stay_and_all_goes_in_order() {
    let mut host = Host::new(1);
    let sq = host.sq();
    let rq = host.rq(true);
    let rqtn = host.rqt(&[rq.rqn, rq.rqn]);
    let direct = host.tir(Disposition::Direct(rq.rqn));
    let indirect = host.tir(Disposition::Indirect(rqtn));
    let (low, high) = (host.flow_table(1), host.flow_table(2));
    let (low_group, high_group) = (host.flow_group(low), host.flow_group(high));
    host.ok(&set_entry(low, low_group, 1, 1, &[high]));
    host.ok(&set_entry(high, high_group, 1, 2, &[direct, indirect]));
    let mut root = input(Opcode::SetFlowTableRoot, 0, SetFlowTableRootIn::SIZE);
    SetFlowTableRootIn::new(&mut root).set_table_id(low);
    host.ok(&root);
    let tisn = host.nic.core.eth.sqs.get(sq.sqn).unwrap().tisn.unwrap();
    let destroy_table = |id| {
        let mut destroy = input(Opcode::DestroyFlowTable, 0, DestroyFlowTableIn::SIZE);
        DestroyFlowTableIn::new(&mut destroy).set_table_id(id);
        destroy
    };
    let destroy_group = |table, id| {
        let mut destroy = input(Opcode::DestroyFlowGroup, 0, DestroyFlowGroupIn::SIZE);
        DestroyFlowGroupIn::new(&mut destroy)
            .set_table_id(table)
            .set_group_id(id);
        destroy
    };
    let delete = |table| {
        let mut delete = input(
            Opcode::DeleteFlowTableEntry,
            0,
            DeleteFlowTableEntryIn::SIZE,
        );
        DeleteFlowTableEntryIn::new(&mut delete)
            .set_table_id(table)
            .set_flow_index(1);
        delete
    };
    let busy = [
        by_number(Opcode::DestroyTis, tisn),
        by_number(Opcode::DestroyRq, rq.rqn),
        by_number(Opcode::DestroyRqt, rqtn),
        by_number(Opcode::DestroyTir, direct),
        by_number(Opcode::DestroyTir, indirect),
        by_number(Opcode::DestroyCq, sq.cq.cqn),
        by_number(Opcode::DestroyCq, rq.cq.cqn),
        by_number(Opcode::DeallocPd, host.pd),
        by_number(Opcode::DeallocTransportDomain, host.td),
        destroy_table(low),
        destroy_table(high),
        destroy_group(low, low_group),
        destroy_group(high, high_group),
    ];
    for command in &busy {
        assert_eq!(
            status(host.command(command)),
            Status::ResBusy,
            "{:#x}",
            be16(command, 0)
        );
    }
    for command in [
        delete(low),
        delete(low),
        delete(high),
        destroy_group(high, high_group),
        destroy_table(high),
        destroy_group(low, low_group),
        destroy_table(low),
        by_number(Opcode::DestroyTir, direct),
        by_number(Opcode::DestroyTir, indirect),
        by_number(Opcode::DestroyRqt, rqtn),
        modify_rq(rq.rqn, 1, 3),
        by_number(Opcode::DestroyRq, rq.rqn),
        by_number(Opcode::DestroySq, sq.sqn),
        by_number(Opcode::DestroyTis, tisn),
        by_number(Opcode::DestroyCq, sq.cq.cqn),
        by_number(Opcode::DestroyCq, rq.cq.cqn),
        by_number(Opcode::DestroyMkey, host.lkey >> 8),
        by_number(Opcode::DestroyEq, host.eqn),
        by_number(Opcode::DeallocPd, host.pd),
        by_number(Opcode::DeallocTransportDomain, host.td),
        by_number(Opcode::DeallocUar, host.uar),
    ] {
        host.ok(&command);
    }
    assert!(
        host.nic
            .core
            .eth
            .steering
            .inventory()
            .iter()
            .all(|(_, count)| *count == 0)
    );
}

#[test]
fn creation_is_refused_with_the_right_status() {
    let mut host = Host::new(1);
    let cq = host.cq();
    let tisn = host.tis();
    let (ring, record) = (host.alloc(0x1000), host.alloc(64));
    let sq = host.create_sq(cq.cqn, tisn, ring, record);
    let mut try_sq = |change: &dyn Fn(&mut CreateSqIn<&mut Vec<u8>>)| {
        let mut create = sq.clone();
        change(&mut CreateSqIn::new(&mut create));
        status(host.command(&create))
    };
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().set_cqn(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().set_tis_num_0(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().set_tis_lst_sz(2);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().set_state(1);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_pd(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_uar_page(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_wq_type(0);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_log_wq_sz(16);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_log_wq_sz(7);
        }),
        Status::BadInpLen
    );
    assert_eq!(
        try_sq(&|sq| {
            sq.sqc_mut().wq_mut().set_page_offset(1);
        }),
        Status::BadInpLen
    );
    assert_eq!(try_sq(&|_| ()), Status::Ok);

    let rq = host.create_rq(cq.cqn, true, 5, ring, record);
    let mut try_rq = |change: &dyn Fn(&mut CreateRqIn<&mut Vec<u8>>)| {
        let mut create = rq.clone();
        change(&mut CreateRqIn::new(&mut create));
        status(host.command(&create))
    };
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().set_cqn(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().set_counter_set_id(9);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().set_mem_rq_type(1).set_rmpn(9);
        }),
        Status::BadRes
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().set_mem_rq_type(2);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().wq_mut().set_wq_type(4);
        }),
        Status::BadParam
    );
    for strides in [8, 9] {
        assert_eq!(
            try_rq(&|rq| {
                let mut rqc = rq.rqc_mut();
                let mut wq = rqc.wq_mut();
                wq.set_wq_type(2).set_log_wqe_num_of_strides(strides);
            }),
            Status::BadParam
        );
    }
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().wq_mut().set_log_wq_stride(3);
        }),
        Status::BadParam
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().wq_mut().set_log_wq_stride(15);
        }),
        Status::BadInpLen
    );
    assert_eq!(
        try_rq(&|rq| {
            rq.rqc_mut().wq_mut().set_pd(0x999);
        }),
        Status::BadRes
    );
    assert_eq!(try_rq(&|_| ()), Status::Ok);

    let mut tir = input(Opcode::CreateTir, 0, CreateTirIn::SIZE);
    let td = host.td;
    CreateTirIn::new(&mut tir)
        .tirc_mut()
        .set_transport_domain(td)
        .set_inline_rqn(0x999);
    assert_eq!(status(host.command(&tir)), Status::BadRes);
    CreateTirIn::new(&mut tir).tirc_mut().set_disp_type(2);
    assert_eq!(status(host.command(&tir)), Status::BadParam);
    let mut rqt = input(Opcode::CreateRqt, 0, CreateRqtIn::SIZE + 12);
    let mut sizes = |max, actual| {
        let mut view = CreateRqtIn::new(&mut rqt);
        view.rqtc_mut()
            .set_rqt_max_size(max)
            .set_rqt_actual_size(actual);
        status(host.command(&rqt))
    };
    assert_eq!(sizes(0, 1), Status::BadParam);
    assert_eq!(sizes(2049, 1), Status::BadParam);
    assert_eq!(sizes(8, 3), Status::BadParam);
    assert_eq!(sizes(8, 16), Status::BadParam);
    assert_eq!(sizes(8, 4), Status::BadInpLen);
    assert_eq!(sizes(8, 2), Status::BadRes);
}

#[test]
fn queues_are_in_one_number_space_and_numbers_come_back_late() {
    let mut host = Host::new(1);
    let sq = host.sq();
    let rq = host.rq(false);
    assert_ne!(sq.sqn, rq.rqn);
    host.ok(&by_number(Opcode::DestroySq, sq.sqn));
    assert_eq!(
        status(host.command(&by_number(Opcode::DestroySq, sq.sqn))),
        Status::BadRes
    );
    let again = host.sq();
    assert_ne!(again.sqn, sq.sqn);
    assert_ne!(again.sqn, rq.rqn);
}

#[test]
fn entries_are_refused_with_the_right_status() {
    let mut host = Host::new(1);
    let rq = host.rq(false);
    let tirn = host.tir(Disposition::Direct(rq.rqn));
    let (low, high) = (host.flow_table(1), host.flow_table(2));
    let group = host.flow_group(high);
    let mut entry = |table, group, index, kind, destinations: &[u32]| {
        status(host.command(&set_entry(table, group, index, kind, destinations)))
    };
    assert_eq!(entry(high, group, 16, 2, &[tirn]), Status::Ix);
    assert_eq!(entry(high, group + 1, 0, 2, &[tirn]), Status::BadRes);
    assert_eq!(entry(99, group, 0, 2, &[tirn]), Status::BadRes);
    assert_eq!(entry(high, group, 0, 2, &[tirn + 1]), Status::BadRes);
    assert_eq!(entry(high, group, 0, 1, &[low]), Status::BadParam);
    assert_eq!(entry(high, group, 0, 1, &[high]), Status::BadParam);
    assert_eq!(entry(high, group, 0, 8, &[0]), Status::BadParam);
    assert_eq!(entry(high, group, 0, 2, &[]), Status::BadParam);
    assert_eq!(entry(high, group, 0, 2, &[tirn; 33]), Status::BadParam);
    assert_eq!(entry(high, group, 0, 2, &[tirn; 32]), Status::Ok);
    let mut short = set_entry(high, group, 0, 2, &[tirn, tirn]);
    short.truncate(SetFlowTableEntryIn::SIZE + 8);
    assert_eq!(status(host.command(&short)), Status::BadInpLen);
    let mut action = set_entry(high, group, 0, 2, &[tirn]);
    SetFlowTableEntryIn::new(&mut action)
        .flow_context_mut()
        .set_action(0x44);
    assert_eq!(status(host.command(&action)), Status::BadParam);
    let mut miss = input(Opcode::ModifyFlowTable, 0, ModifyFlowTableIn::SIZE);
    let mut view = ModifyFlowTableIn::new(&mut miss);
    view.set_table_id(high).set_modify_field_select(1);
    view.flow_table_context_mut()
        .set_table_miss_action(1)
        .set_table_miss_id(low);
    assert_eq!(status(host.command(&miss)), Status::BadParam);
    let mut group = input(Opcode::CreateFlowGroup, 0, CreateFlowGroupIn::SIZE);
    let mut view = CreateFlowGroupIn::new(&mut group);
    view.set_table_id(low).set_match_criteria_enable(2);
    view.match_criteria_mut()
        .misc_parameters_mut()
        .set_vxlan_vni(1);
    assert_eq!(status(host.command(&group)), Status::BadParam);
    CreateFlowGroupIn::new(&mut group).set_match_criteria_enable(1);
    assert_eq!(status(host.command(&group)), Status::Ok);
}

#[test]
fn flow_counters_are_read_one_by_one_and_in_bulk() {
    let mut host = Host::new(1);
    let rq = host.rq(false);
    let tirn = host.tir(Disposition::Direct(rq.rqn));
    let table = host.flow_table(1);
    let group = host.flow_group(table);
    let alloc = input(Opcode::AllocFlowCounter, 0, 16);
    let id = AllocFlowCounterOut::new(&host.ok(&alloc)).flow_counter_id();
    let mut entry = set_entry(table, group, 0, 2, &[tirn]);
    entry.extend(id.to_be_bytes());
    entry.extend([0; 4]);
    let mut view = SetFlowTableEntryIn::new(&mut entry);
    view.flow_context_mut()
        .set_action(0xc)
        .set_flow_counter_list_size(1);
    host.ok(&entry);
    host.receive(&pattern(100));
    host.receive(&pattern(60));
    let query = |id, count| {
        let mut query = input(Opcode::QueryFlowCounter, 0, QueryFlowCounterIn::SIZE);
        QueryFlowCounterIn::new(&mut query)
            .set_flow_counter_id(id)
            .set_num_of_counters(count);
        query
    };
    // Linux says 0 and means 1.
    let output = host.ok(&query(id, 0));
    let counter = QueryFlowCounterOut::new(&output[..])
        .flow_statistics()
        .get(0)
        .unwrap();
    assert_eq!((counter.packets(), counter.octets()), (2, 160));
    let output = host.ok(&query(id - 1, 4));
    assert_eq!(output.len(), 16 + 4 * 16);
    assert_eq!(output[16..32], [0; 16]);
    assert_eq!(output[39], 2);
    assert_eq!(status(host.command(&query(id + 1, 1))), Status::BadRes);
    assert_eq!(host.ok(&query(id, 1024)).len(), 16 + 1024 * 16);
    assert_eq!(status(host.command(&query(id, 1025))), Status::BadParam);
    assert_eq!(
        status(host.command(&by_number(Opcode::DeallocFlowCounter, id))),
        Status::ResBusy
    );
}
