//! Objects of a NIC as whoever debugs its driver wants to see them: a snapshot of some of them, made
//! without changing anything. Knows what is shown, not how it is printed.
//!
//! The NIC stands still while it is looked at, so every answer is bounded: so many objects, and so
//! many numbers that are looked through for them.

mod counters;
mod memory;
mod qp;
mod queue;

pub use counters::{Counters, QCounterSet};
pub use memory::{FlowTableInfo, GidInfo, MkeyInfo, NumberInfo, TirInfo, TisInfo};
pub use qp::{FailureInfo, PathInfo, QpInfo};
pub use queue::{CqInfo, EqInfo, QueueInfo, SrqInfo, Work};

use rocinante_wire::ib::Gid;
use serde::Serialize;

use super::nic::Nic;
use super::table::Table;

/// Most objects in one answer.
pub const MAX_OBJECTS: usize = 256;

/// Most numbers that are looked through for one answer: well below a millisecond.
const SPAN: usize = 1 << 16;

macro_rules! kinds {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Kinds of object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// What users call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    Qp = "qp", "Queue pairs.";
    Cq = "cq", "Completion queues.";
    Eq = "eq", "Event queues.";
    Mkey = "mkey", "Memory keys.";
    Srq = "srq", "SRQs, XRC SRQs and RMPs.";
    Pd = "pd", "Protection domains.";
    Xrcd = "xrcd", "XRC domains.";
    Uar = "uar", "Pages of doorbells.";
    Sq = "sq", "Send queues of raw frames.";
    Rq = "rq", "Receive queues of raw frames.";
    Tir = "tir", "Transport interfaces, receive.";
    Tis = "tis", "Transport interfaces, send.";
    FlowTable = "flow-table", "Flow tables.";
    QCounter = "q-counter", "Q counter sets.";
    Gid = "gid", "Entries of the RoCE address table.";
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let found = Kind::ALL.iter().find(|kind| kind.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("'{text}' is no kind of object ({})", names.join(", "))
        })
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // each is described where it is defined
pub enum Object {
    Qp(Box<QpInfo>),
    Cq(CqInfo),
    Eq(EqInfo),
    Mkey(MkeyInfo),
    Srq(SrqInfo),
    Queue(QueueInfo),
    Tir(TirInfo),
    Tis(TisInfo),
    FlowTable(FlowTableInfo),
    QCounter(Box<QCounterSet>),
    Gid(GidInfo),
    Number(NumberInfo),
}

/// Some objects of a kind, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// These.
    pub objects: Vec<Object>,
    /// How many objects of the kind there are.
    pub total: usize,
    /// Where to go on; `None` if these were the last.
    pub next: Option<u32>,
}

/// Objects of a kind, from the number `first` on, at most `limit`.
pub fn objects(nic: &Nic, kind: Kind, first: u32, limit: usize) -> Page {
    let (core, mem) = (&nic.core, &nic.core.mem);
    let page = Paging {
        first,
        limit: limit.min(MAX_OBJECTS),
    };
    match kind {
        Kind::Qp => page.of(&nic.qps, |n, qp| {
            Object::Qp(Box::new(QpInfo::of(n, qp, core)))
        }),
        Kind::Cq => page.of(&core.cqs.table, |n, cq| Object::Cq(CqInfo::of(n, cq, mem))),
        Kind::Eq => page.of(&core.eqs.table, |n, eq| Object::Eq(EqInfo::of(n, eq))),
        Kind::Mkey => page.of(&core.mkeys.table, |n, mkey| {
            Object::Mkey(MkeyInfo::of(n, mkey))
        }),
        Kind::Srq => page.of(&core.srqs, |n, srq| Object::Srq(SrqInfo::of(n, srq, mem))),
        Kind::Pd => page.of(&core.resources.pds, number),
        Kind::Xrcd => page.of(&core.resources.xrcds, number),
        Kind::Uar => page.of(&core.resources.uars, number),
        Kind::Sq => page.of(&core.eth.sqs, |n, sq| {
            Object::Queue(QueueInfo::of_sq(n, sq, mem))
        }),
        Kind::Rq => page.of(&core.eth.rqs, |n, rq| {
            Object::Queue(QueueInfo::of_rq(n, rq, mem))
        }),
        Kind::Tir => page.of(&core.eth.tirs, |n, tir| Object::Tir(TirInfo::of(n, tir))),
        Kind::Tis => page.of(&core.eth.tiss, |n, tis| Object::Tis(TisInfo::of(n, tis))),
        Kind::FlowTable => page.of(core.eth.steering.tables(), |n, table| {
            Object::FlowTable(FlowTableInfo::of(n, table, &core.eth.steering))
        }),
        Kind::QCounter => page.of(&core.q_counters, |n, counters| {
            Object::QCounter(Box::new(QCounterSet::of(n, counters)))
        }),
        Kind::Gid => page.gids(nic),
    }
}

fn number(number: u32, (): &()) -> Object {
    Object::Number(NumberInfo { number })
}

struct Paging {
    first: u32,
    limit: usize,
}

impl Paging {
    fn of<T>(&self, table: &Table<T>, show: impl Fn(u32, &T) -> Object) -> Page {
        let (range, mut next) = table.range(self.first, SPAN);
        let mut objects = Vec::new();
        for (number, object) in range {
            if objects.len() >= self.limit {
                next = Some(number);
                break;
            }
            objects.push(show(number, object));
        }
        Page {
            objects,
            total: table.len(),
            next,
        }
    }

    fn gids(&self, nic: &Nic) -> Page {
        let roce = &nic.core.roce;
        let all: Vec<_> = (0..=u8::MAX)
            .filter_map(|index| Some((index, roce.address(index)?)))
            .collect();
        let mut rest = all
            .iter()
            .filter(|(index, _)| u32::from(*index) >= self.first);
        let objects = rest
            .by_ref()
            .take(self.limit)
            .map(|(index, address)| Object::Gid(GidInfo::of(*index, address)))
            .collect();
        Page {
            objects,
            total: all.len(),
            next: rest.next().map(|(index, _)| u32::from(*index)),
        }
    }
}

/// As users know it: an IPv6 address, with an IPv4 address in its last part if it stands for one.
fn gid_text(gid: &[u8; 16]) -> String {
    Gid(*gid).to_ipv6().to_string()
}

#[cfg(test)]
mod tests;
