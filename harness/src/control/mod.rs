//! Control of a running server, in the manner of QEMU's machine protocol: lines of JSON over a UNIX
//! socket, described in `docs/control.md`. Knows what can be asked and told; what is done is done
//! by [`ServerHandle`](crate::serve::ServerHandle).

pub mod arguments;
mod capture;
pub mod client;
pub mod commands;
pub(crate) mod counters;
mod faults;
pub mod http;
mod link;
pub mod metrics;
mod nic;
mod objects;
pub mod protocol;
pub mod session;
pub mod socket;
pub mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rocinante_wire::switch::Wake;
use serde_json::Value;

use crate::serve::ServerHandle;
use crate::serve::events::Subscription;
use arguments::Arguments;
use commands::{Command, Run};
use http::HttpServer;
use protocol::Failure;
use session::World;
use socket::ControlSocket;
use watch::Watch;

/// The ways into a running server from outside; none by default. Closed when dropped.
#[derive(Default)]
pub struct Doors {
    _socket: Option<ControlSocket>,
    _watch: Option<Watch>,
    metrics: Option<HttpServer>,
}

impl Doors {
    /// Opens a control socket at `control`, and serves metrics at `metrics`.
    pub fn open(
        control: Option<&Path>,
        metrics: Option<SocketAddr>,
        server: &ServerHandle,
    ) -> Result<Doors> {
        let watched = control.map(|_| Watch::start(server.clone()));
        let socket = control.map(|path| ControlSocket::start(path, server.clone()));
        let page = server.clone();
        let metrics =
            metrics.map(|address| HttpServer::start(address, move || metrics::render(&page)));
        Ok(Doors {
            _socket: socket.transpose()?,
            _watch: watched.transpose()?,
            metrics: metrics.transpose()?,
        })
    }

    /// Where metrics are to be had.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(HttpServer::address)
    }
}

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
