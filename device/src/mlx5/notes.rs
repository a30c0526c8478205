//! What happened to a NIC that its user may want to hear of: a driver that came or went, a queue
//! pair that failed. Knows what is told, not who listens; nothing is kept unless somebody does.

use std::collections::VecDeque;

use rocinante_wire::transport::WcError;

use super::eq::EventType;
use super::leak::Findings;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A driver has initialized the HCA.
    Came,
    /// What it says it is.
    Version(String),
    /// A driver has said goodbye, or was cut off by a reset, and left this.
    Went(Findings),
    /// All is as at power-on.
    Reset,
    /// A queue pair went to an error state.
    QpError {
        /// Which.
        qpn: u32,
        /// Why.
        failure: Failure,
    },
}

/// Why a queue pair is in an error state. Nothing of it is there if a command asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// A work request failed with this.
    pub status: Option<WcError>,
    /// The driver got this event.
    pub event: Option<EventType>,
    /// It was the peer's request that failed.
    pub responder: bool,
}

/// Notes that may wait; further ones are only counted.
const MAX_WAITING: usize = 256;

/// Notes to be fetched.
#[derive(Debug, Default)]
pub struct Notes {
    /// Somebody fetches them.
    pub wanted: bool,
    waiting: VecDeque<Note>,
    lost: u64,
    /// The work request that failed last; its queue pair follows.
    status: Option<(u32, WcError)>,
}

impl Notes {
    /// Keeps a note if it is wanted.
    pub fn add(&mut self, note: Note) {
        if !self.wanted {
            return;
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(note);
        } else {
            self.lost += 1;
        }
    }

    /// A work request of this queue pair failed.
    pub fn failed(&mut self, qpn: u32, status: WcError) {
        self.status = Some((qpn, status));
    }

    /// Notes that this queue pair went to an error state; returns all that is known of it.
    pub fn qp_error(&mut self, qpn: u32, event: Option<EventType>, responder: bool) -> Failure {
        let status = self.status.take().filter(|(whose, _)| *whose == qpn);
        let failure = Failure {
            status: status.map(|(_, status)| status),
            event,
            responder,
        };
        self.add(Note::QpError { qpn, failure });
        failure
    }

    /// The oldest note.
    #[inline]
    pub fn poll(&mut self) -> Option<Note> {
        self.waiting.pop_front()
    }

    /// How many notes found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_for_somebody_and_are_bounded() {
        let mut notes = Notes::default();
        notes.add(Note::Reset);
        assert_eq!(notes.poll(), None);
        notes.wanted = true;
        for _ in 0..MAX_WAITING + 5 {
            notes.add(Note::Reset);
        }
        assert_eq!(notes.lost(), 5);
        assert_eq!(std::iter::from_fn(|| notes.poll()).count(), MAX_WAITING);
    }

    #[test]
    fn a_failure_is_of_the_queue_pair_that_failed() {
        let mut notes = Notes::default();
        notes.failed(7, WcError::RetryExceeded);
        let failure = notes.qp_error(7, None, false);
        assert_eq!(failure.status, Some(WcError::RetryExceeded));
        notes.failed(7, WcError::RetryExceeded);
        assert_eq!(notes.qp_error(8, None, false), Failure::default());
        assert_eq!(notes.qp_error(7, None, false), Failure::default());
    }
}
