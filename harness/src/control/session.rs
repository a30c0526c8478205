//! One client's conversation: bytes in, bytes out. Knows lines, requests and limits; commands are
//! executed by a [`World`]. No socket, thread or clock in here.
//!
//! Nothing that a client sends makes it keep more than [`MAX_LINE`] bytes of input and, of output,
//! one answer beyond [`MAX_OUTPUT`]: then it stops reading until the client does.

use std::sync::Arc;
use std::time::Duration;

use rocinante_wire::switch::Wake;
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::commands::{self, Command, Run};
use super::protocol::{Class, Failure, Request, answer, brief, event, greeting};
use crate::serve::events::{Heard, Subscription};

/// Bytes of the longest request.
pub const MAX_LINE: usize = 1 << 20;

/// Bytes that wait for the client from which on nothing more is done for it.
pub const MAX_OUTPUT: usize = 1 << 18;

/// What commands act upon.
pub trait World {
    /// Executes a command.
    fn execute(&self, command: &Command, arguments: &Arguments) -> Result<Value, Failure>;

    /// Listens to events from now on; `waker` is called for each.
    fn subscribe(&self, waker: Arc<dyn Wake>) -> Subscription;
}

/// Events that a client wants.
struct Listening {
    subscription: Subscription,
    /// Empty for all.
    names: Vec<String>,
}

/// A conversation.
pub struct Session {
    input: Vec<u8>,
    /// What of it has been dealt with.
    done: usize,
    /// What of it has no end of a line.
    scanned: usize,
    /// The line was too long; its rest is ignored.
    skipping: bool,
    output: Vec<u8>,
    sent: usize,
    waker: Arc<dyn Wake>,
    listening: Option<Listening>,
    /// Events and requests take turns.
    events_first: bool,
}

impl Session {
    /// A conversation that begins: the greeting is to be sent. `waker` is called, from other
    /// threads, when there are events.
    pub fn new(waker: Arc<dyn Wake>) -> Session {
        let mut session = Session {
            input: Vec::new(),
            done: 0,
            scanned: 0,
            skipping: false,
            output: Vec::new(),
            sent: 0,
            waker,
            listening: None,
            events_first: false,
        };
        session.put(&greeting());
        session
    }

    /// Whether bytes may be [fed](Self::feed).
    pub fn wants_input(&self) -> bool {
        !self.is_full() && self.input.len() - self.done <= MAX_LINE
    }

    /// Takes bytes from the client.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.done > 0 {
            self.input.drain(..self.done);
            self.scanned -= self.done;
            self.done = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// What is to be sent to the client.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or(&[])
    }

    /// So many bytes of it were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            // What a large answer needed is not kept.
            self.output.shrink_to(MAX_OUTPUT);
        }
    }

    /// Whether the client waits for nothing but answers that are already in the output.
    pub fn is_listening(&self) -> bool {
        self.listening.is_some()
    }

    /// Deals with one request or event. False if there is none, or no room for its answer.
    /// `now` is since 1970-01-01 00:00 UTC.
    pub fn turn(&mut self, world: &dyn World, now: Duration) -> bool {
        if self.is_full() {
            return false;
        }
        self.events_first = !self.events_first;
        let told = self.events_first && self.tell_event(now);
        told || self.take_line(world) || self.tell_event(now)
    }

    fn take_line(&mut self, world: &dyn World) -> bool {
        match self.line() {
            None => false,
            Some(Err(TooLong)) => {
                let desc = format!("a request of more than {MAX_LINE} bytes");
                let failure = Failure::new(Class::InvalidRequest, desc);
                self.put(&answer(Err(failure), None));
                true
            }
            Some(Ok(line)) => {
                if !line.trim_ascii().is_empty() {
                    let answer = self.request(world, &line);
                    self.put(&answer);
                }
                true
            }
        }
    }

    fn is_full(&self) -> bool {
        self.output().len() >= MAX_OUTPUT
    }

    fn put(&mut self, value: &Value) {
        self.output.extend_from_slice(value.to_string().as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// The next line, without its end.
    fn line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        loop {
            let rest = self.input.get(self.scanned..).unwrap_or(&[]);
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.input.len();
                if self.skipping {
                    self.done = self.scanned;
                } else if self.scanned - self.done > MAX_LINE {
                    self.skipping = true;
                    self.done = self.scanned;
                    return Some(Err(TooLong));
                }
                return None;
            };
            let end = self.scanned + end;
            let line = self.input.get(self.done..end).unwrap_or(&[]).to_vec();
            self.done = end + 1;
            self.scanned = self.done;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            return Some(if line.len() > MAX_LINE {
                Err(TooLong)
            } else {
                Ok(line)
            });
        }
    }

    fn tell_event(&mut self, now: Duration) -> bool {
        let Some(listening) = &self.listening else {
            return false;
        };
        let Some(heard) = listening.subscription.poll() else {
            return false;
        };
        let wanted = match &heard {
            Heard::Event(event) => {
                listening.names.is_empty() || listening.names.iter().any(|name| name == event.name)
            }
            Heard::Lost(_) => true,
        };
        if wanted {
            self.put(&event(heard, now));
        }
        true
    }

    fn request(&mut self, world: &dyn World, line: &[u8]) -> Value {
        match Request::parse(line) {
            Err((failure, id)) => answer(Err(failure), id),
            Ok(request) => {
                let Request {
                    execute,
                    arguments,
                    id,
                } = request;
                answer(self.execute(world, &execute, arguments), id)
            }
        }
    }

    fn execute(
        &mut self,
        world: &dyn World,
        name: &str,
        arguments: serde_json::Map<String, Value>,
    ) -> Result<Value, Failure> {
        let command = commands::find(name).ok_or_else(|| {
            let desc = format!("no command '{}' (see query-commands)", brief(name));
            Failure::new(Class::CommandNotFound, desc)
        })?;
        let arguments = Arguments::check(name, command.arguments, arguments)?;
        match command.run {
            Run::Subscribe => self.subscribe(world, &arguments),
            Run::Unsubscribe => {
                self.listening = None;
                Ok(json!({}))
            }
            Run::Server(_) => world.execute(command, &arguments),
        }
    }

    fn subscribe(&mut self, world: &dyn World, arguments: &Arguments) -> Result<Value, Failure> {
        let names = arguments.texts("events");
        if let Some(unknown) = names
            .iter()
            .find(|name| !commands::EVENTS.contains(&name.as_str()))
        {
            return Err(Failure::argument(format!(
                "no event '{}' ({})",
                brief(unknown),
                commands::EVENTS.join(", ")
            )));
        }
        match &mut self.listening {
            // What waits already stays.
            Some(listening) => listening.names = names,
            None => {
                self.listening = Some(Listening {
                    subscription: world.subscribe(Arc::clone(&self.waker)),
                    names,
                });
            }
        }
        Ok(json!({}))
    }
}

/// A line longer than [`MAX_LINE`].
struct TooLong;

#[cfg(test)]
mod tests;
