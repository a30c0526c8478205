//! Numbers that devices assign: from those in a recording to those that were given now.
//!
//! Which fields of a command hold numbers follows from the fields' names.

use std::collections::HashMap;

use rocinante_firmware_cmd::layout::{self, Layout};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// UAR page.
    Uar,
    /// Protection domain.
    Pd,
    /// Transport domain.
    TransportDomain,
    /// Memory key, without its variant.
    Mkey,
    /// Event queue.
    Eq,
    /// Completion queue.
    Cq,
    /// Queue pair.
    Qp,
    /// SRQ, XRC SRQ or RMP.
    Srq,
    /// XRC domain.
    Xrcd,
    /// Q counter set.
    Counters,
    /// Transport interface, send.
    Tis,
    /// Transport interface, receive.
    Tir,
    /// Send queue.
    Sq,
    /// Receive queue.
    Rq,
    /// Receive queue table.
    Rqt,
    /// Flow table.
    Table,
    /// Flow group.
    Group,
}

/// From recorded numbers to those given now.
#[derive(Clone, Debug, Default)]
pub struct Numbers(HashMap<(Object, u32), u32>);

impl Numbers {
    /// The number given now. 0 stands for none everywhere.
    pub fn get(&self, object: Object, recorded: u32) -> Result<u32, String> {
        if recorded == 0 {
            return Ok(0);
        }
        let found = self.0.get(&(object, recorded)).copied();
        found.ok_or_else(|| format!("{object:?} {recorded:#x} was never given"))
    }

    /// A memory key: its index is a number, its lowest byte is the driver's.
    pub fn mkey(&self, recorded: u32) -> Result<u32, String> {
        let index = self.get(Object::Mkey, recorded >> 8)?;
        Ok(index << 8 | recorded & 0xff)
    }

    /// Puts the numbers given now into an input. The remote QP's is one of `peer`.
    pub fn translate(
        &self,
        peer: &Numbers,
        layout: &Layout,
        bytes: &mut [u8],
    ) -> Result<(), String> {
        for field in layout.fields {
            let start = (field.bit_offset / 8) as usize;
            match field.kind {
                layout::Kind::Int => {
                    let (Some(object), Some(value)) =
                        (object(layout, field.name, bytes), field.int(bytes))
                    else {
                        continue;
                    };
                    let whose = if field.name == "remote_qpn" {
                        peer
                    } else {
                        self
                    };
                    let number = whose.get(object, value as u32)?;
                    field.set_int(bytes, number.into());
                }
                layout::Kind::Bytes => {}
                layout::Kind::Struct(inner) => {
                    let len = field.bytes(bytes).len();
                    if let Some(part) = bytes.get_mut(start..start + len) {
                        self.translate(peer, inner, part)?;
                    }
                }
                layout::Kind::Array(inner) => {
                    let len = field.bytes(bytes).len();
                    if let Some(part) = bytes.get_mut(start..start + len) {
                        for element in part.chunks_exact_mut(inner.size.max(1)) {
                            self.translate(peer, inner, element)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes note of the number in the output of a command that gives one, and returns it.
    pub fn learn(
        &mut self,
        layout: &Layout,
        recorded: &[u8],
        given: &[u8],
    ) -> Result<Option<u32>, String> {
        for field in layout.fields {
            let Some(object) = object(layout, field.name, recorded) else {
                continue;
            };
            let (Some(old), Some(new)) = (field.int(recorded), field.int(given)) else {
                continue;
            };
            if new == 0 {
                return Err(format!("{object:?} 0 was given"));
            }
            self.0.insert((object, old as u32), new as u32);
            return Ok(Some(new as u32));
        }
        Ok(None)
    }
}

/// What the field of that name in that structure counts.
fn object(layout: &Layout, field: &str, bytes: &[u8]) -> Option<Object> {
    Some(match field {
        // That of a key that any QP may use.
        "qpn" if layout.name == "Mkc" => return None,
        "uar" | "uar_page" => Object::Uar,
        "pd" => Object::Pd,
        "transport_domain" => Object::TransportDomain,
        "mkey_index" => Object::Mkey,
        "eq_number" | "c_eqn" => Object::Eq,
        "cqn" | "cqn_snd" | "cqn_rcv" => Object::Cq,
        "qpn" | "remote_qpn" => Object::Qp,
        "rmpn" | "xrc_srqn" | "srqn_rmpn_xrqn" => Object::Srq,
        "xrcd" => Object::Xrcd,
        "counter_set_id" => Object::Counters,
        "tisn" | "tis_num_0" => Object::Tis,
        "tirn" => Object::Tir,
        "sqn" => Object::Sq,
        "rqn" | "rq_num" | "inline_rqn" => Object::Rq,
        "rqtn" | "indirect_table" => Object::Rqt,
        "table_id" => Object::Table,
        "group_id" => Object::Group,
        "destination_id" => match layout.field("destination_type")?.int(bytes)? {
            1 => Object::Table,
            2 => Object::Tir,
            _ => return None,
        },
        _ => return None,
    })
}
