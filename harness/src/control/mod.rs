//! Control of a running server, in the manner of QEMU's machine protocol: lines of JSON over a UNIX
//! socket, described in `docs/control.md`. Knows what can be asked and told; what is done is done
//! by [`ServerHandle`](crate::serve::ServerHandle).

pub mod arguments;
mod capture;
pub mod commands;
mod counters;
mod faults;
mod link;
mod nic;
mod objects;
pub mod protocol;
pub mod session;

use std::sync::Arc;

use rocinante_wire::switch::Wake;
use serde_json::Value;

use crate::serve::ServerHandle;
use crate::serve::events::Subscription;
use arguments::Arguments;
use commands::{Command, Run};
use protocol::Failure;
use session::World;

impl World for ServerHandle {
    fn execute(&self, command: &Command, arguments: &Arguments) -> Result<Value, Failure> {
        match command.run {
            Run::Server(run) => run(self, arguments),
            // These are the conversation's own.
            Run::Subscribe | Run::Unsubscribe => Ok(Value::Null),
        }
    }

    fn subscribe(&self, waker: Arc<dyn Wake>) -> Subscription {
        self.events().subscribe(move || waker.wake())
    }
}
