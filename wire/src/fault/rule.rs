//! A rule in its checked form: where it stands, what it matches, which of the matches it takes, and
//! what then happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::field::{Field, Header, Source};
use super::opcodes::glob;
use super::term::Condition;
use super::view::View;

/// Which way a frame goes, from the point of view of what is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the NIC to the wire.
    Tx,
    /// From the wire to the NIC.
    Rx,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reverse(self) -> Direction {
        match self {
            Direction::Tx => Direction::Rx,
            Direction::Rx => Direction::Tx,
        }
    }

    /// `tx` or `rx`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Tx => "tx",
            Direction::Rx => "rx",
        }
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Names of links, with `*` and `?`; empty for all.
    pub links: Vec<String>,
    /// Names of ports, with `*` and `?`; empty for all.
    pub ports: Vec<String>,
    /// `None` for both.
    pub direction: Option<Direction>,
}

impl Place {
    /// Whether a port of a link is meant.
    #[must_use]
    pub fn is_at(&self, link: &str, port: &str) -> bool {
        let fits = |patterns: &[String], name| {
            patterns.is_empty() || patterns.iter().any(|pattern| glob(pattern, name))
        };
        fits(&self.links, link) && fits(&self.ports, port)
    }

    pub(crate) fn goes(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|only| only == direction)
    }
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All matches of the rule.
    All,
    /// Those at one port in one direction.
    Port,
    /// Those from one source to one destination and QP (or ports), at one port.
    Flow,
}

/// From when a time window counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Since the rules were loaded.
    Load,
    /// Since the rule's first match.
    Match,
}

/// Which of the matching frames are hit.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// These, counted from 1; empty for all. Ascending.
    pub nth: Vec<u64>,
    /// Each whose number is a multiple of this.
    pub every: u64,
    /// None after this one.
    pub first: Option<u64>,
    /// None up to this one.
    pub after: u64,
    /// At most so many hits.
    pub count: Option<u64>,
    /// Of those that are left, each with this probability.
    pub probability: Option<f64>,
    /// Beginning of the time window.
    pub from: Duration,
    /// End of the time window.
    pub until: Option<Duration>,
    /// From when the window counts.
    pub since: Since,
    /// What is counted together.
    pub per: Scope,
}

impl Selection {
    /// Whether the `n`th match is one to hit.
    #[must_use]
    pub fn takes(&self, n: u64) -> bool {
        n > self.after
            && self.first.is_none_or(|first| n <= first)
            && n.is_multiple_of(self.every)
            && (self.nth.is_empty() || self.nth.binary_search(&n).is_ok())
    }
}

/// Whether what guards a changed part is made right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Checksums of IPv4, UDP, TCP, ICMP.
    pub checksum: bool,
    /// The ICRC of RoCE.
    pub icrc: bool,
}

/// What to corrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Bits anywhere in the frame behind the Ethernet header and tag.
    Anywhere,
    /// Bits of the payload.
    Payload,
    /// Bits of the ICRC.
    Icrc,
    /// Bits of a field.
    Field(&'static Field),
    /// From this byte of the frame on.
    Offset(u32),
}

/// How to corrupt it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// So many different bits, chosen by the seed, are inverted.
    Random(u32),
    /// These bits are inverted.
    Xor(u128),
}

/// A forged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ACK of the matched request.
    Ack,
    /// NAK with this syndrome byte.
    Nak(u8),
    /// RNR NAK with this timer code.
    RnrNak(u8),
    /// Congestion notification packet.
    Cnp,
}

/// What happens to a frame that is hit.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing, and later rules are not asked.
    Pass,
    /// It is lost.
    Drop,
    /// It comes `copies` times more.
    Duplicate {
        /// Copies besides the frame itself.
        copies: u32,
        /// How much later each copy comes than the one before.
        delay: Duration,
    },
    /// It comes later.
    Delay {
        /// At least this.
        fixed: Duration,
        /// And up to this more, by the seed.
        jitter: Duration,
    },
    /// It comes after `by` later frames, or after the timeout.
    Reorder {
        /// Frames that overtake it.
        by: u32,
        /// No longer than this.
        timeout: Duration,
    },
    /// Bits are inverted.
    Corrupt {
        /// Which.
        target: Target,
        /// How.
        damage: Damage,
        /// Whether anyone can notice.
        repair: Repair,
    },
    /// Only so many bytes are left.
    Truncate(u32),
    /// Congestion experienced.
    EcnCe,
    /// Fields get values.
    Set {
        /// Which.
        fields: Vec<(&'static Field, u128)>,
        /// What is made right again.
        repair: Repair,
    },
    /// The sender gets an answer that nobody gave.
    Forge {
        /// What it says.
        answer: Answer,
        /// Whether the frame itself goes on.
        deliver: bool,
        /// The sender's QP, if it is not to be found out.
        dest_qp: Option<u32>,
    },
}

impl Action {
    /// For comments in captures.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::Duplicate { .. } => "duplicate",
            Action::Delay { .. } => "delay",
            Action::Reorder { .. } => "reorder",
            Action::Corrupt { .. } => "corrupt",
            Action::Truncate(_) => "truncate",
            Action::EcnCe => "ecn-ce",
            Action::Set { .. } => "set",
            Action::Forge { answer, .. } => match answer {
                Answer::Ack => "forge ack",
                Answer::Nak(0x60) => "forge nak-sequence-error",
                Answer::Nak(0x61) => "forge nak-invalid-request",
                Answer::Nak(0x62) => "forge nak-remote-access",
                Answer::Nak(0x63) => "forge nak-remote-operational",
                Answer::Nak(0x64) => "forge nak-invalid-rd-request",
                Answer::Nak(_) => "forge nak",
                Answer::RnrNak(_) => "forge rnr-nak",
                Answer::Cnp => "forge cnp",
            },
        }
    }
}

/// What a frame must be for a rule to match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pattern {
    /// Headers that are there, as [`Header::bit`]s.
    pub(crate) need: u32,
    /// Headers that are not.
    pub(crate) forbid: u32,
    /// IPv4 or IPv6 is there.
    pub(crate) any_ip: bool,
    /// Only this RoCE version, 1 or 2.
    pub(crate) roce: Option<u8>,
    /// Only these opcodes.
    pub(crate) opcodes: Option<super::opcodes::Opcodes>,
    pub(crate) conditions: Vec<Condition>,
}

impl Pattern {
    pub(crate) fn require(&mut self, header: Header) {
        self.need |= header.bit();
    }

    /// Whether the PSN that a flow began with plays a part.
    pub(crate) fn is_relative(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.field.source == Source::RelativePsn)
    }

    /// Whether a frame is meant. `relative` is its relative PSN.
    pub(crate) fn matches(&self, view: &View<'_>, relative: Option<u32>) -> bool {
        let present = view.present();
        if present & self.need != self.need || present & self.forbid != 0 {
            return false;
        }
        if let Some(opcodes) = &self.opcodes
            && !view.opcode().is_some_and(|opcode| opcodes.has(opcode))
        {
            return false;
        }
        (!self.any_ip || view.has(Header::Ipv4) || view.has(Header::Ipv6))
            && self.roce.is_none_or(|version| {
                view.has(Header::Bth) && (version == 1) == view.has(Header::Grh)
            })
            && self.conditions.iter().all(|condition| {
                let value = match condition.field.source {
                    Source::RelativePsn => relative.map(u128::from),
                    _ => view.get(condition.field),
                };
                value.is_some_and(|value| condition.matches(value))
            })
    }
}

/// How often a rule matched and hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// The rule's name.
    pub name: String,
    /// Frames that met its conditions within its time window.
    pub matches: u64,
    /// Frames that its action was applied to.
    pub hits: u64,
}

/// Shared by all cables.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) matches: AtomicU64,
    pub(crate) hits: AtomicU64,
    /// Nanoseconds; `u64::MAX` for not yet.
    pub(crate) first_match: AtomicU64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            matches: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            first_match: AtomicU64::new(u64::MAX),
        }
    }
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) place: Place,
    pub(crate) pattern: Pattern,
    pub(crate) select: Selection,
    pub(crate) seed: u64,
    pub(crate) action: Action,
    pub(crate) counts: Counts,
}

impl Rule {
    /// Its name, unique among the rules.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line of the file where it stands.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Where it stands in the fabric.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it does.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
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
