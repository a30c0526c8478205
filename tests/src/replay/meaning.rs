//! Whether an answer means what the recorded one meant.
//!
//! Most answers must be the same bytes, but for the number that was given and for addresses. Of those that tell what the
//! device can do, that count, or whose device is another, what the driver makes use of must be there.

use rocinante_firmware_cmd::mlx5::caps::CapType;
use rocinante_firmware_cmd::mlx5::caps::ethernet::EthernetCaps;
use rocinante_firmware_cmd::mlx5::caps::flow::FlowTableNicCaps;
use rocinante_firmware_cmd::mlx5::caps::general::GeneralCaps;
use rocinante_firmware_cmd::mlx5::caps::query_op_mod;
use rocinante_firmware_cmd::mlx5::caps::rdma::{AtomicCaps, RoceCaps};
use rocinante_firmware_cmd::mlx5::command::{AccessRegisterIn, AccessRegisterOut, Input};
use rocinante_firmware_cmd::mlx5::hca::{QueryAdapterOut, QueryHcaCapOut, QuerySpecialContextsOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;
use rocinante_firmware_cmd::mlx5::registers::Register;
use rocinante_firmware_cmd::mlx5::registers::port::{Paos, Pfcc, Pmtu, Ptys};
use rocinante_firmware_cmd::mlx5::vport::QueryNicVportContextOut;

use super::replace;
use crate::vectors::Record;

/// Fails, naming the difference, if `output` means something else than what was recorded.
pub fn same(
    opcode: Opcode,
    record: &Record,
    output: &[u8],
    identity: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), String> {
    let mut expected = record.output.clone();
    for (from, to) in identity {
        replace(&mut expected, from, to);
    }
    let input = Input::new(&record.input[..]);
    let same = match opcode {
        Opcode::QueryHcaCap => {
            return caps(input.op_mod(), QueryHcaCapOut::new(output).capability());
        }
        Opcode::AccessReg => return register(&record.input, &expected, output),
        Opcode::QueryNicVportContext => {
            let parts = |bytes: &[u8]| {
                let view = QueryNicVportContextOut::new(bytes);
                let context = view.nic_vport_context();
                (
                    context.roce_en(),
                    context.mtu(),
                    context.permanent_address().mac_addr(),
                    context.node_guid(),
                    context.allowed_list_size(),
                )
            };
            parts(&expected) == parts(output)
        }
        Opcode::QueryAdapter => {
            let vendor = |bytes: &[u8]| QueryAdapterOut::new(bytes).adapter().ieee_vendor_id();
            vendor(&expected) == vendor(output)
        }
        Opcode::QuerySpecialContexts => QuerySpecialContextsOut::new(output).resd_lkey() != 0,
        // Whoever gives pages gives what is wanted.
        Opcode::QueryPages => true,
        // They count.
        Opcode::QueryQCounter | Opcode::QueryVportCounter | Opcode::QueryVnicEnv => {
            output.len() == expected.len()
        }
        _ if record.name.starts_with("CREATE_") || record.name.starts_with("ALLOC_") => {
            // The number is looked at by whoever learns it.
            let without = |bytes: &[u8]| bytes[..8].to_vec();
            without(&expected) == without(output) && output[12..] == expected[12..]
        }
        _ => output == expected,
    };
    if same {
        return Ok(());
    }
    Err(format!(
        "answered otherwise:\n  {}\nrecorded:\n  {}",
        hex(output),
        hex(&expected)
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Capabilities that FreeBSD needs.
fn caps(op_mod: u16, bytes: &[u8]) -> Result<(), String> {
    let Some((kind, _)) = query_op_mod(op_mod) else {
        return Err(format!("capabilities {op_mod:#x} are unknown"));
    };
    let all = |wanted: &[(&str, bool)]| match wanted.iter().find(|(_, there)| !there) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{kind:?}: {name}")),
    };
    match kind {
        CapType::General => {
            let caps = GeneralCaps::new(bytes);
            all(&[
                (
                    "an Ethernet port",
                    caps.port_type() == 1 && caps.num_ports() == 1,
                ),
                ("eth_net_offloads", caps.eth_net_offloads()),
                ("nic_flow_table", caps.nic_flow_table()),
                ("roce", caps.roce()),
                ("xrc", caps.xrc()),
                ("log_max_qp of 17", caps.log_max_qp() >= 17),
                ("log_max_eq of 3", caps.log_max_eq() >= 3),
                ("log_max_rqt_size of 7", caps.log_max_rqt_size() >= 7),
                ("log_max_mkey of 13", caps.log_max_mkey() >= 13),
                ("log_max_wq_sz of 10", caps.log_max_wq_sz() >= 10),
                ("umr_ptr_rlky", caps.umr_ptr_rlky()),
                ("fast_teardown", caps.fast_teardown()),
                ("vport_counters", caps.vport_counters()),
                ("device_frequency_khz", caps.device_frequency_khz() > 0),
            ])
        }
        CapType::Ethernet => {
            let caps = EthernetCaps::new(bytes);
            all(&[
                ("csum_cap", caps.csum_cap()),
                ("vlan_cap", caps.vlan_cap()),
                ("max_lso_cap of 16", caps.max_lso_cap() >= 16),
                // 3 is what no driver knows.
                ("wqe_inline_mode up to 2", caps.wqe_inline_mode() <= 2),
            ])
        }
        CapType::Atomic => {
            let caps = AtomicCaps::new(bytes);
            all(&[("8 bytes", caps.atomic_size_qp() & 8 != 0)])
        }
        CapType::Roce => {
            let caps = RoceCaps::new(bytes);
            all(&[
                ("versions 1 and 2", caps.roce_version() & 5 == 5),
                ("IPv4 and IPv6", caps.l3_type() & 6 == 6),
                ("16 addresses", caps.roce_address_table_size() >= 16),
            ])
        }
        CapType::FlowTableNic => {
            let caps = FlowTableNicCaps::new(bytes);
            let table = caps.flow_table_properties_nic_receive();
            all(&[
                ("ft_support", table.ft_support()),
                ("max_ft_level of 13", table.max_ft_level() >= 13),
                ("log_max_ft_size of 15", table.log_max_ft_size() >= 15),
                ("modify_root", table.modify_root()),
                ("flow_modify_en", table.flow_modify_en()),
            ])
        }
        #[allow(unreachable_patterns)]
        _ => Ok(()),
    }
}

/// What registers say that FreeBSD goes by.
fn register(input: &[u8], recorded: &[u8], output: &[u8]) -> Result<(), String> {
    let id = AccessRegisterIn::new(input).register_id();
    let (old, new) = (
        AccessRegisterOut::new(recorded),
        AccessRegisterOut::new(output),
    );
    let (old, new) = (old.register_data(), new.register_data());
    let problem = match Register::from_u16(id) {
        Some(Register::Pmtu) => {
            let (old, new) = (Pmtu::new(old), Pmtu::new(new));
            (old.admin_mtu() != new.admin_mtu() || old.oper_mtu() != new.oper_mtu())
                .then_some("MTU")
                .or((new.max_mtu() < 9022).then_some("max_mtu"))
        }
        Some(Register::Paos) => {
            let (old, new) = (Paos::new(old), Paos::new(new));
            (old.admin_status() != new.admin_status()).then_some("admin_status")
        }
        Some(Register::Pfcc) => {
            let (old, new) = (Pfcc::new(old), Pfcc::new(new));
            ((old.pptx(), old.pprx()) != (new.pptx(), new.pprx())).then_some("pause frames")
        }
        Some(Register::Ptys) => {
            let (old, new) = (Ptys::new(old), Ptys::new(new));
            let up = |oper: u32| oper.count_ones() == 1;
            // With none or one that is not in its table FreeBSD has no carrier.
            (up(old.eth_proto_oper()) && !up(new.eth_proto_oper()))
                .then_some("eth_proto_oper")
                .or((new.eth_proto_capability() == 0).then_some("eth_proto_capability"))
        }
        Some(_) => (new.len() < old.len()).then_some("shorter"),
        None => Some("unknown register"),
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(format!("register {id:#x}: {problem}")),
    }
}
