//! Fields of commands and capabilities by name: from the tables of their layouts.

use rocinante_device::mlx5::fault::Override;
use rocinante_firmware_cmd::layout::{Field, Kind, Layout};
use rocinante_firmware_cmd::mlx5::caps::CapType;

/// Capabilities by the name of their type.
pub(super) const CAPS: [(&str, CapType); 8] = [
    ("general", CapType::General),
    ("ethernet", CapType::Ethernet),
    ("atomic", CapType::Atomic),
    ("roce", CapType::Roce),
    ("flow_table_nic", CapType::FlowTableNic),
    ("flow_table_eswitch", CapType::FlowTableEswitch),
    ("eswitch", CapType::Eswitch),
    ("qos", CapType::Qos),
];

/// The integer `path` (`field`, or `structure.field`) of a layout, from the start of it.
pub(super) fn field(layout: &Layout, path: &str) -> Result<Field, String> {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(found) = layout.field(name) else {
        return Err(format!(
            "'{}' has no field '{name}'{}",
            layout.name,
            similar(layout, name)
        ));
    };
    match (&found.kind, rest) {
        (Kind::Int, None) => Ok(Field {
            name: found.name,
            bit_offset: found.bit_offset,
            bits: found.bits,
            kind: Kind::Int,
        }),
        (Kind::Struct(inner), Some(rest)) => {
            let mut inner = field(inner, rest)?;
            inner.bit_offset += found.bit_offset;
            Ok(inner)
        }
        (Kind::Struct(inner), None) => Err(format!(
            "'{name}' is a structure: name one of its fields ({name}.{})",
            inner.fields.first().map_or("…", |first| first.name)
        )),
        _ => Err(format!("'{path}' is no number")),
    }
}

/// Names like one that is not there.
fn similar(layout: &Layout, name: &str) -> String {
    let mut close: Vec<&str> = layout
        .fields
        .iter()
        .map(|field| field.name)
        .filter(|known| known.contains(name) || name.contains(known) || distance(known, name) <= 2)
        .collect();
    close.truncate(4);
    if close.is_empty() {
        String::new()
    } else {
        format!(" (but {})", close.join(", "))
    }
}

/// How many characters have to be changed, put in or left out to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Whether a number fits a field.
pub(super) fn fits(field: &Field, value: u64) -> Result<(), String> {
    let most = u64::MAX >> (64 - field.bits.clamp(1, 64));
    if value <= most {
        Ok(())
    } else {
        Err(format!(
            "'{}' has {} bits: at most {most}",
            field.name, field.bits
        ))
    }
}

/// The capability `type.field`.
pub(super) fn capability(path: &str, value: u64) -> Result<Override, String> {
    let kinds = || CAPS.map(|(name, _)| name).join(", ");
    let (kind, rest) = path
        .split_once('.')
        .ok_or_else(|| format!("'{path}' is no type.field (types: {})", kinds()))?;
    let (_, cap_type) = CAPS
        .iter()
        .find(|(name, _)| *name == kind)
        .ok_or_else(|| format!("no capabilities '{kind}' ({})", kinds()))?;
    let found = field(cap_type.layout(), rest)?;
    fits(&found, value)?;
    Ok(Override {
        cap_type: *cap_type,
        bit_offset: found.bit_offset,
        bits: found.bits,
        value,
    })
}
