//! Faults of the firmware and of the adapter: what a user wants to go wrong, and when.
//!
//! Knows the vocabulary ([`Plan`], [`Fault`], [`Injection`]) and which occurrences are hit; reading a
//! file of faults is somebody else's. The NIC asks where something can go wrong: at a command, an event,
//! an interrupt, a completion. Without faults that is one branch each.
#![doc = include_str!("faults.md")]

mod apply;
mod command;
mod completion;
mod event;
pub mod names;
mod select;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rocinante_firmware_cmd::layout::{Field, Kind as FieldKind};
use rocinante_firmware_cmd::mlx5::caps::CapType;
use rocinante_firmware_cmd::mlx5::status::{DeliveryStatus, Status};
use rocinante_wire::fault::{RuleCounters, Selection};

use super::qp::ServiceType;
pub(super) use apply::{
    Faults, after_reset, announced, changes_queue_pairs, forget_objects, inject, load,
    note_queue_pairs, run,
};
pub(super) use command::execute;
pub(super) use completion::{CompletionFaults, Verdict};
pub(super) use event::EventFaults;

/// All faults of one NIC. Faults may be shared with others, which then count together.
#[derive(Clone, Debug, Default)]
pub struct Plan(pub Vec<Arc<Fault>>);

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// Its name, unique among all faults.
    pub name: String,
    /// Where chance comes from.
    pub seed: u64,
    /// What.
    pub kind: Kind,
    /// How often it matched and hit so far, on all NICs.
    pub counts: Counts,
    cleared: AtomicBool,
}

impl Fault {
    /// With counters at zero.
    #[must_use]
    pub fn new(name: &str, seed: u64, kind: Kind) -> Fault {
        Fault {
            name: name.to_owned(),
            seed,
            kind,
            counts: Counts::default(),
            cleared: AtomicBool::new(false),
        }
    }

    /// Ends it, for all NICs; false if it has been ended before.
    pub fn clear(&self) -> bool {
        !self.cleared.swap(true, Ordering::Relaxed)
    }

    /// Whether it has been ended.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.cleared.load(Ordering::Relaxed)
    }

    /// Counts something that happened by itself.
    fn note(&self) {
        self.counts.matches.fetch_add(1, Ordering::Relaxed);
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it matched and hit so far.
    #[must_use]
    pub fn counters(&self) -> RuleCounters {
        RuleCounters {
            name: self.name.clone(),
            matches: self.counts.matches.load(Ordering::Relaxed),
            hits: self.counts.hits.load(Ordering::Relaxed),
        }
    }
}

/// Counters of a fault.
#[derive(Debug, Default)]
pub struct Counts {
    matches: AtomicU64,
    hits: AtomicU64,
}

/// What a fault is about.
#[derive(Debug)]
pub enum Kind {
    /// Commands.
    Command(Selection, CommandFault),
    /// Entries of event queues.
    Event(Selection, EventFault),
    /// Interrupts.
    Interrupt(Selection, InterruptFault),
    /// Completions.
    Completion(Selection, CompletionFault),
    /// Something happens by itself, or is wrong for a time.
    Timed(Schedule, Injection),
    /// Capabilities are not what they are.
    Capability(Vec<Override>),
    /// Timeouts that the adapter announces.
    Timeouts(Timeouts),
}

/// A field of a command, wherever it is nested, from the start of input or output.
#[derive(Debug)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// Its value.
    pub value: u64,
}

/// Which commands, and what happens to them.
#[derive(Debug)]
pub struct CommandFault {
    /// Opcodes, each with the fields of its input that have to have these values.
    pub opcodes: Vec<(u16, Vec<Condition>)>,
    /// Only with this `op_mod`.
    pub op_mod: Option<u16>,
    /// What happens.
    pub action: CommandAction,
}

/// What happens to a command.
#[derive(Debug)]
pub enum CommandAction {
    /// Refused without being executed.
    Refuse {
        /// Status.
        status: Status,
        /// Syndrome.
        syndrome: u32,
    },
    /// Executed, but said to have failed.
    Deny {
        /// Status.
        status: Status,
        /// Syndrome.
        syndrome: u32,
    },
    /// Neither executed nor answered.
    Ignore,
    /// Executed, but never answered.
    NoAnswer,
    /// Executed, and answered later.
    Delay(Duration),
    /// Answered, but with no event.
    NoEvent,
    /// So many bits of the output, behind status and syndrome, are inverted.
    Corrupt(u32),
    /// Fields of the output of each opcode get these values.
    Set(Vec<(u16, Vec<Condition>)>),
    /// Not executed: the queue entry says that it could not be delivered.
    Delivery(DeliveryStatus),
    /// The token of entry and mailboxes is another one.
    Token,
    /// The signature of the entry is wrong.
    Signature,
    /// The entry stays the device's, and the event says it is done.
    Ownership,
}

/// How something is delivered that should be delivered once and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Not at all.
    Drop,
    /// Later.
    Delay(Duration),
    /// So many times more, each so much later than the one before.
    Duplicate(u32, Duration),
}

/// Which events, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFault {
    /// Types; empty for all.
    pub types: Vec<u8>,
    /// Only of this event queue.
    pub eqn: Option<u32>,
    /// Only with this sub-type.
    pub sub_type: Option<u8>,
    /// What happens.
    pub action: Delivery,
}

/// Which interrupts, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptFault {
    /// Only this vector.
    pub vector: Option<u16>,
    /// What happens.
    pub action: Delivery,
}

/// Which queues' completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Queue pairs of this service.
    Qp(ServiceType),
    /// Send or receive queues of Ethernet.
    Ethernet,
}

/// Which completions, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionFault {
    /// Only of this completion queue.
    pub cqn: Option<u32>,
    /// Only of this queue pair, send queue or receive queue.
    pub qpn: Option<u32>,
    /// Only of such queues.
    pub queue: Option<QueueKind>,
    /// Only of requests, or of what was received.
    pub request: Option<bool>,
    /// The completions of each queue are counted by themselves.
    pub per_queue: bool,
    /// What happens.
    pub action: CompletionAction,
}

/// What happens to a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionAction {
    /// It is never written.
    Drop,
    /// It is written twice.
    Duplicate,
    /// It says that the work request failed, and its queue goes to the error state.
    Fail {
        /// Syndrome.
        syndrome: u8,
        /// Vendor's syndrome.
        vendor: u8,
    },
    /// Its queue has no room for it.
    Overrun,
}

/// When something happens by itself, or is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// First.
    pub from: Duration,
    /// No longer than this.
    pub until: Option<Duration>,
    /// Again and again after this time.
    pub every: Option<Duration>,
    /// At most so often.
    pub count: Option<u64>,
    /// From when on time counts.
    pub since: Start,
}

/// From when on the times of a [`Schedule`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Since the faults were loaded.
    Load,
    /// Since the driver initialized the device (INIT_HCA), each time anew.
    Init,
}

/// A bit or number of the capabilities that is not what it is.
#[derive(Clone, Copy, Debug)]
pub struct Override {
    /// Which capabilities.
    pub cap_type: CapType,
    /// Where.
    pub bit_offset: u32,
    /// How wide.
    pub bits: u32,
    /// What is said instead.
    pub value: u64,
}

impl Override {
    /// Puts it into the capabilities of its type.
    pub fn apply(&self, caps: &mut [u8]) {
        let field = Field {
            name: "",
            bit_offset: self.bit_offset,
            bits: self.bits,
            kind: FieldKind::Int,
        };
        field.set_int(caps, self.value);
    }
}

/// Timeouts that the adapter announces: those of the initialization segment, and those of register DTOR by
/// their offset in it. Drivers look when they attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a driver is to wait for a command.
    pub command: Option<Duration>,
    /// How long it is to wait for the command queue to come up.
    pub init: Option<Duration>,
    /// In DTOR.
    pub registers: Vec<(usize, Duration)>,
}

/// What is in the health buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Syndrome, 0 is healthy.
    pub syndrome: u8,
    /// More about it.
    pub ext_syndrome: u16,
    /// Reset is required: this is fatal.
    pub rfr: bool,
    /// Severity, as in syslog.
    pub severity: Option<u8>,
    /// A reset does not help.
    pub sticky: bool,
    /// No command is executed while this lasts.
    pub dead: bool,
}

/// Whom an asynchronous event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// This one.
    Number(u32),
    /// The one that was created last.
    Newest,
    /// Each there is.
    All,
}

/// The objects that asynchronous events are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Queue pairs, or those of a service.
    Qp(Whom, Option<ServiceType>),
    /// Shared receive queues.
    Srq(Whom),
    /// Completion queues.
    Cq(Whom),
}

/// What can be made to happen, now or at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// An asynchronous event of a queue. Those that are errors put the queue into the error state.
    Async {
        /// Event type.
        event_type: u8,
        /// About whom.
        object: Object,
        /// Syndrome of a CQ error.
        syndrome: u8,
    },
    /// Any event, to whoever takes events of its type.
    Event {
        /// Event type.
        event_type: u8,
        /// Sub-type.
        sub_type: u8,
    },
    /// An interrupt for which there is no reason.
    Interrupt(u16),
    /// This is in the health buffer.
    Health(Health),
    /// The health counter stands still.
    HealthCounter,
    /// The adapter says that it is still initializing.
    Initializing,
    /// The device asks for so many pages; negative, it wants to give them back.
    Pages(i32),
    /// The device keeps this many of the pages that the driver wants back.
    KeepPages(u32),
    /// The module says this about itself.
    Module {
        /// 1 plugged, 2 unplugged, 3 error, 4 disabled.
        status: u8,
        /// What is wrong.
        error: u8,
    },
    /// The chip has this temperature, in units of 0.125 degrees Celsius. Above its threshold it warns.
    Temperature(i16),
    /// The adapter is pulled out: loads read all ones, and all state is lost.
    Removal,
    /// All that was injected and lasts is over.
    Clear,
}

impl Injection {
    /// Whether it lasts, and is not over as soon as it has happened.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        matches!(
            self,
            Injection::Health(_)
                | Injection::HealthCounter
                | Injection::Initializing
                | Injection::KeepPages(_)
                | Injection::Temperature(_)
                | Injection::Removal
        )
    }
}
