//! Commands about flow steering: tables, groups, entries, the root, and flow counters.

use rocinante_firmware_cmd::checks;
use rocinante_firmware_cmd::mlx5::flow::{
    AllocFlowCounterIn, AllocFlowCounterOut, CreateFlowGroupIn, CreateFlowGroupOut,
    CreateFlowTableIn, CreateFlowTableOut, DeallocFlowCounterIn, DeleteFlowTableEntryIn,
    DestroyFlowGroupIn, DestroyFlowTableIn, FlowContext, FlowCounterList, FlowTableContext,
    FteMatchParam, ModifyFlowTableIn, QueryFlowCounterIn, QueryFlowCounterOut, SetFlowTableEntryIn,
    SetFlowTableRootIn,
};

use super::{CmdError, Opcode, Status};
use crate::mlx5::eth::steering::{
    Action, Criteria, Destination, Entry, FlowError, Key, MAX_COUNTERS, MAX_COUNTERS_READ,
    MAX_DESTINATIONS, Modify,
};
use crate::mlx5::nic::Nic;

checks! {
    CreateFlowTable {
        TABLE_FEATURE = 1, BadParam, "asks for a feature that is not offered";
        TABLE_MISS = 2, BadParam, "table_miss_action unknown";
    }
    ModifyFlowTable {
        MODIFY_MISS = 1, BadParam, "table_miss_action unknown";
        MODIFY_SELECT = 2, BadParam, "modify_field_select has bits that are not offered";
    }
    SetFlowTableRoot {
        ROOT_UNDERLAY = 1, BadParam, "underlay QPs are not offered";
        ROOT_METHOD = 2, BadParam, "op_mod unknown";
    }
    CreateFlowGroup {
        CRITERIA = 1, BadParam, "match criteria are set in fields that cannot be matched";
    }
    SetFlowTableEntry {
        ENTRY_METHOD = 1, BadParam, "op_mod unknown";
        ENTRY_FEATURE = 2, BadParam, "asks for a feature that is not offered";
        ENTRY_ACTION = 3, BadParam, "action has bits that are not offered";
        ENTRY_NOWHERE = 4, BadParam, "forwards without a destination";
        ENTRY_MANY = 5, BadParam, "destination or counter list above the capability";
        ENTRY_SHORT = 6, BadInpLen, "destination or counter list is cut off";
        ENTRY_DESTINATION = 7, BadParam, "destination_type cannot be reached from here";
    }
    AllocFlowCounter {
        COUNTER_BULK = 1, BadParam, "bulk allocation is not offered";
    }
    QueryFlowCounter {
        COUNTERS_READ = 1, BadParam, "num_of_counters above the capability";
    }
}

/// Executes one flow steering command.
pub fn execute(
    nic: &mut Nic,
    opcode: Opcode,
    op_mod: u16,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), CmdError> {
    match opcode {
        Opcode::SetFlowTableRoot => set_root(nic, op_mod, input),
        Opcode::CreateFlowTable => create_table(nic, input, output),
        Opcode::DestroyFlowTable => destroy_table(nic, input),
        Opcode::ModifyFlowTable => modify_table(nic, input),
        Opcode::CreateFlowGroup => create_group(nic, input, output),
        Opcode::DestroyFlowGroup => destroy_group(nic, input),
        Opcode::SetFlowTableEntry => set_entry(nic, op_mod, input),
        Opcode::DeleteFlowTableEntry => delete_entry(nic, input),
        Opcode::AllocFlowCounter => alloc_counter(nic, input, output),
        Opcode::DeallocFlowCounter => free_counter(nic, input),
        Opcode::QueryFlowCounter => query_counter(nic, input, output),
        opcode => Err(CmdError::new(
            opcode,
            0,
            Status::BadOp,
            "not a flow steering command",
        )),
    }
}

/// What a refusal of steering is as a command's status.
fn refused(opcode: Opcode) -> impl Fn(FlowError) -> CmdError {
    move |error| {
        let (check, status, reason) = match error {
            FlowError::NoTable => (0x81, Status::BadRes, "no such flow table"),
            FlowError::NoGroup => (0x82, Status::BadRes, "no such flow group"),
            FlowError::NoEntry => (0x83, Status::BadRes, "no such flow table entry"),
            FlowError::NoCounter => (0x84, Status::BadRes, "no such flow counter"),
            FlowError::NoDestination => (0x85, Status::BadRes, "no such destination"),
            FlowError::Size => (
                0x86,
                Status::BadParam,
                "log_size or level above the capability",
            ),
            FlowError::Level => (
                0x87,
                Status::BadParam,
                "leads to a table of no higher level",
            ),
            FlowError::Range => (
                0x88,
                Status::BadParam,
                "flow indices overlap or are outside",
            ),
            FlowError::Index => (0x89, Status::Ix, "flow_index outside the group"),
            FlowError::Busy => (0x8a, Status::ResBusy, "still in use"),
            FlowError::Limit => (0x8b, Status::Lim, "no more of them"),
        };
        CmdError::new(opcode, check, status, reason)
    }
}

/// NIC receive tables of this vport are the only ones there are.
fn check_type(opcode: Opcode, table_type: u8, other_vport: bool) -> Result<(), CmdError> {
    if table_type == 0 && !other_vport {
        return Ok(());
    }
    Err(CmdError::new(
        opcode,
        0x80,
        Status::BadParam,
        "no tables of that type",
    ))
}

/// Where misses go; `None` if the action is unknown.
fn miss(context: FlowTableContext<&[u8]>) -> Option<Option<u32>> {
    match context.table_miss_action() {
        0 => Some(None),
        1 => Some(Some(context.table_miss_id())),
        _ => None,
    }
}

fn create_table(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let view = CreateFlowTableIn::new(input);
    check_type(
        Opcode::CreateFlowTable,
        view.table_type(),
        view.other_vport(),
    )?;
    let context = view.flow_table_context();
    let offered = !context.sw_owner()
        && !context.reformat_en()
        && !context.decap_en()
        && !context.termination_table();
    if !offered {
        return Err(TABLE_FEATURE);
    }
    let miss = miss(context).ok_or(TABLE_MISS)?;
    let id = nic
        .core
        .eth
        .steering
        .create_table(context.level(), context.log_size(), miss)
        .map_err(refused(Opcode::CreateFlowTable))?;
    CreateFlowTableOut::new(output).set_table_id(id);
    Ok(())
}

fn destroy_table(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = DestroyFlowTableIn::new(input);
    check_type(
        Opcode::DestroyFlowTable,
        view.table_type(),
        view.other_vport(),
    )?;
    let steering = &mut nic.core.eth.steering;
    steering
        .destroy_table(view.table_id())
        .map_err(refused(Opcode::DestroyFlowTable))
}

fn modify_table(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = ModifyFlowTableIn::new(input);
    check_type(
        Opcode::ModifyFlowTable,
        view.table_type(),
        view.other_vport(),
    )?;
    // Bit 15 is about link aggregation.
    if view.modify_field_select() & !1 != 0 {
        return Err(MODIFY_SELECT);
    }
    if view.modify_field_select() == 0 {
        return Ok(());
    }
    let miss = miss(view.flow_table_context()).ok_or(MODIFY_MISS)?;
    let steering = &mut nic.core.eth.steering;
    steering
        .set_miss(view.table_id(), miss)
        .map_err(refused(Opcode::ModifyFlowTable))
}

fn set_root(nic: &mut Nic, op_mod: u16, input: &[u8]) -> Result<(), CmdError> {
    let view = SetFlowTableRootIn::new(input);
    check_type(
        Opcode::SetFlowTableRoot,
        view.table_type(),
        view.other_vport(),
    )?;
    if view.underlay_qpn() != 0 {
        return Err(ROOT_UNDERLAY);
    }
    let root = match op_mod {
        0 => Some(view.table_id()),
        1 => None,
        _ => return Err(ROOT_METHOD),
    };
    nic.core
        .eth
        .steering
        .set_root(root)
        .map_err(refused(Opcode::SetFlowTableRoot))
}

/// `match_criteria_enable`.
mod enable {
    pub const OUTER: u8 = 1;
    pub const MISC: u8 = 1 << 1;
    pub const INNER: u8 = 1 << 2;
}

/// Match parameters as steering knows them; `None` if they name what cannot be matched.
fn criteria(param: FteMatchParam<&[u8]>, enabled: u8) -> Option<Criteria> {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if enabled & enable::MISC != 0 {
        let misc = param.misc_parameters();
        if !is_zero(misc.as_bytes()) {
            return None;
        }
    }
    if enabled & !(enable::OUTER | enable::MISC | enable::INNER) != 0 && !is_zero(&param.others()) {
        return None;
    }
    let outer = if enabled & enable::OUTER != 0 {
        outer(param)
    } else {
        Key::default()
    };
    // FreeBSD makes groups for tunnels that it never puts entries in.
    let inner = enabled & enable::INNER != 0 && !is_zero(param.inner_headers().as_bytes());
    Some(Criteria { outer, inner })
}

fn outer(param: FteMatchParam<&[u8]>) -> Key {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(param.outer_headers().as_bytes()) {
        *to = *from;
    }
    Key::from_bytes(&bytes)
}

fn create_group(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let view = CreateFlowGroupIn::new(input);
    check_type(
        Opcode::CreateFlowGroup,
        view.table_type(),
        view.other_vport(),
    )?;
    let criteria = criteria(view.match_criteria(), view.match_criteria_enable()).ok_or(CRITERIA)?;
    let id = nic
        .core
        .eth
        .steering
        .create_group(
            view.table_id(),
            view.start_flow_index(),
            view.end_flow_index(),
            criteria,
        )
        .map_err(refused(Opcode::CreateFlowGroup))?;
    CreateFlowGroupOut::new(output).set_group_id(id);
    Ok(())
}

fn destroy_group(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = DestroyFlowGroupIn::new(input);
    check_type(
        Opcode::DestroyFlowGroup,
        view.table_type(),
        view.other_vport(),
    )?;
    let steering = &mut nic.core.eth.steering;
    steering
        .destroy_group(view.table_id(), view.group_id())
        .map_err(refused(Opcode::DestroyFlowGroup))
}

fn entry(context: FlowContext<&[u8]>) -> Result<Entry, CmdError> {
    if context.extended_destination() || context.encrypt_decrypt_type() != 0 {
        return Err(ENTRY_FEATURE);
    }
    let action = Action::from_bits(context.action()).ok_or(ENTRY_ACTION)?;
    let destinations = context.destination_list_size() as usize;
    let counters = context.flow_counter_list_size() as usize;
    if destinations > MAX_DESTINATIONS || counters > MAX_COUNTERS {
        return Err(ENTRY_MANY);
    }
    if action.has(Action::FORWARD) && destinations == 0 {
        return Err(ENTRY_NOWHERE);
    }
    let list = context.destination();
    if list.len() < destinations + counters {
        return Err(ENTRY_SHORT);
    }
    let destination = |given: &rocinante_firmware_cmd::mlx5::flow::DestFormat<&[u8]>| {
        let id = given.destination_id();
        match given.destination_type() {
            _ if given.packet_reformat() => Err(ENTRY_FEATURE),
            1 => Ok(Destination::Table(id)),
            2 => Ok(Destination::Tir(id)),
            _ => Err(ENTRY_DESTINATION),
        }
    };
    Ok(Entry {
        value: outer(context.match_value()),
        action,
        flow_tag: context.flow_tag(),
        destinations: list
            .iter()
            .take(destinations)
            .map(|given| destination(&given))
            .collect::<Result<_, _>>()?,
        // Behind the destinations, in entries of the same size.
        counters: list
            .iter()
            .skip(destinations)
            .take(counters)
            .map(|counter| FlowCounterList::new(counter.into_inner()).flow_counter_id())
            .collect(),
    })
}

fn set_entry(nic: &mut Nic, op_mod: u16, input: &[u8]) -> Result<(), CmdError> {
    let view = SetFlowTableEntryIn::new(input);
    check_type(
        Opcode::SetFlowTableEntry,
        view.table_type(),
        view.other_vport(),
    )?;
    if view.ignore_flow_level() {
        return Err(ENTRY_FEATURE);
    }
    let context = view.flow_context();
    let entry = entry(context)?;
    let (table, index) = (view.table_id(), view.flow_index());
    let eth = &mut nic.core.eth;
    match op_mod {
        0 => eth
            .steering
            .set_entry(&mut eth.tirs, table, context.group_id(), index, entry),
        1 => {
            let mask = view.modify_enable_mask();
            let what = Modify {
                action: mask & 1 != 0,
                flow_tag: mask & 2 != 0,
                destinations: mask & 4 != 0,
                counters: mask & 8 != 0,
            };
            eth.steering
                .modify_entry(&mut eth.tirs, table, index, what, entry)
        }
        _ => return Err(ENTRY_METHOD),
    }
    .map_err(refused(Opcode::SetFlowTableEntry))
}

fn delete_entry(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let view = DeleteFlowTableEntryIn::new(input);
    check_type(
        Opcode::DeleteFlowTableEntry,
        view.table_type(),
        view.other_vport(),
    )?;
    let eth = &mut nic.core.eth;
    eth.steering
        .delete_entry(&mut eth.tirs, view.table_id(), view.flow_index())
        .map_err(refused(Opcode::DeleteFlowTableEntry))
}

fn alloc_counter(nic: &mut Nic, input: &[u8], output: &mut [u8]) -> Result<(), CmdError> {
    let view = AllocFlowCounterIn::new(input);
    if view.flow_counter_bulk() != 0 || view.flow_counter_bulk_log_size() != 0 {
        return Err(COUNTER_BULK);
    }
    let steering = &mut nic.core.eth.steering;
    let id = steering
        .alloc_counter()
        .map_err(refused(Opcode::AllocFlowCounter))?;
    AllocFlowCounterOut::new(output).set_flow_counter_id(id);
    Ok(())
}

fn free_counter(nic: &mut Nic, input: &[u8]) -> Result<(), CmdError> {
    let id = DeallocFlowCounterIn::new(input).flow_counter_id();
    let steering = &mut nic.core.eth.steering;
    steering
        .free_counter(id)
        .map_err(refused(Opcode::DeallocFlowCounter))
}

fn query_counter(nic: &mut Nic, input: &[u8], output: &mut Vec<u8>) -> Result<(), CmdError> {
    let view = QueryFlowCounterIn::new(input);
    let (first, clear) = (view.flow_counter_id(), view.clear());
    let count = usize::from(view.num_of_counters());
    if count > MAX_COUNTERS_READ {
        return Err(COUNTERS_READ);
    }
    let steering = &mut nic.core.eth.steering;
    // One counter must exist. A range may have gaps: Linux rounds it to where it asks in bulk.
    if count <= 1 && steering.read_counter(first, false).is_none() {
        return Err(refused(Opcode::QueryFlowCounter)(FlowError::NoCounter));
    }
    let count = count.max(1);
    output.resize(QueryFlowCounterOut::SIZE + count * 16, 0);
    let mut view = QueryFlowCounterOut::new(&mut output[..]);
    let mut statistics = view.flow_statistics_mut();
    for (index, id) in (0..count).zip(first..) {
        if let Some(traffic) = steering.read_counter(id, clear) {
            let mut counter = statistics.get_mut(index);
            counter
                .set_packets(traffic.packets)
                .set_octets(traffic.octets);
        }
    }
    Ok(())
}
