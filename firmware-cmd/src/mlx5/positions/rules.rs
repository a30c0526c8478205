//! Rules that all layouts obey.

use crate::layout::{Kind, Layout};
use crate::mlx5::caps::{CapMode, CapType, HcaCaps};
use crate::mlx5::hca::SetHcaCapIn;
use crate::mlx5::opcode::Opcode;
use crate::mlx5::registers::Register;

fn all_layouts() -> Vec<&'static Layout> {
    fn add(layout: &'static Layout, to: &mut Vec<&'static Layout>) {
        if to.iter().any(|known| known.name == layout.name) {
            return;
        }
        to.push(layout);
        for field in layout.fields {
            if let Kind::Struct(inner) | Kind::Array(inner) = field.kind {
                add(inner, to);
            }
        }
    }
    let mut all = Vec::new();
    for command in Opcode::ALL.iter().filter_map(|opcode| opcode.command()) {
        add(command.input, &mut all);
        add(command.output, &mut all);
    }
    Register::ALL
        .iter()
        .for_each(|register| add(register.layout(), &mut all));
    (0..16)
        .filter_map(CapType::from_u16)
        .for_each(|cap_type| add(cap_type.layout(), &mut all));
    all
}

/// Fields lie within their structure and do not overlap, integers lie within their words. Two names for one place are
/// the exception.
#[test]
fn fields_are_where_they_can_be() {
    let layouts = all_layouts();
    assert!(layouts.len() > 180, "{}", layouts.len());
    for layout in layouts {
        let size = 8 * layout.size as u32;
        let mut taken: Vec<(u32, u32, &str)> = Vec::new();
        for field in layout.fields {
            let (start, end) = (field.bit_offset, field.bit_offset + field.bits);
            let at = format!("{}.{}", layout.name, field.name);
            if field.bits == 0 {
                assert!(start <= size, "{at} leaves a gap");
            } else {
                assert!(end <= size, "{at} lies outside");
            }
            if matches!(field.kind, Kind::Int) {
                assert!(
                    field.bits == 64 && start % 32 == 0 || start / 32 == (end - 1) / 32,
                    "{at} straddles words"
                );
            }
            for &(other_start, other_end, other) in &taken {
                let apart = end <= other_start || other_end <= start || field.bits == 0;
                let aliases = start == other_start && end == other_end;
                assert!(apart || aliases, "{at} overlaps {other}");
            }
            taken.push((start, end, field.name));
        }
    }
}

/// What the drivers send has no reserved bits set, so that a check for them can be switched on.
#[test]
fn capabilities_have_no_reserved_bits() {
    let caps = HcaCaps::connectx5();
    for cap_type in (0..16).filter_map(CapType::from_u16) {
        let bytes = caps.get(cap_type, CapMode::Max);
        assert_eq!(cap_type.layout().reserved_bit(bytes), None, "{cap_type:?}");
    }
    let mut set = vec![0; SetHcaCapIn::SIZE];
    SetHcaCapIn::new(&mut set)
        .set_opcode(Opcode::SetHcaCap.code())
        .capability_mut()[0x1c] = 1;
    assert_eq!(SetHcaCapIn::LAYOUT.reserved_bit(&set), None);
}
