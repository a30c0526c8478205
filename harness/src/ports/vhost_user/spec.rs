//! What a user says about a port for a VM, and what that is to QEMU.

use std::path::PathBuf;

use rocinante_wire::MacAddr;

use crate::serve::{mac_of, parse_mac};

/// The MTU that the card is told of; the NICs of the lab use it as well.
const MTU: u16 = 9000;

/// A port for the virtio-net card of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPort {
    /// Where the monitor connects, by vhost-user.
    pub socket: PathBuf,
    /// The card's MAC address. It is the monitor that gives it to the guest.
    pub mac: MacAddr,
}

impl VmPort {
    /// A port at a socket. Without an address it gets one that depends on nothing but the path.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(socket: PathBuf, mac: Option<&str>) -> Result<VmPort, String> {
        Ok(VmPort {
            mac: match mac {
                Some(text) => parse_mac(text)?,
                None => mac_of(&socket),
            },
            socket,
        })
    }

    /// A short name: the socket's file name without extension.
    pub fn name(&self) -> String {
        let stem = self.socket.file_stem();
        stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }

    /// The QEMU arguments that attach a card named `id`, each an option and its value. The guest's memory has to be shared, as for
    /// NICs.
    pub fn qemu_options(&self, id: &str) -> [[String; 2]; 3] {
        // QEMU's option parser takes a doubled comma as one.
        let path = self.socket.to_string_lossy().replace(',', ",,");
        let mac = self.mac;
        [
            // The connection comes and goes with the carrier.
            [
                "-chardev".into(),
                format!("socket,id={id},path={path},reconnect-ms=200"),
            ],
            [
                "-netdev".into(),
                format!("vhost-user,id=net-{id},chardev={id}"),
            ],
            [
                "-device".into(),
                format!(
                    "virtio-net-pci,netdev=net-{id},mac={mac},host_mtu={MTU},rx_queue_size=1024,tx_queue_size=1024"
                ),
            ],
        ]
    }

    /// The same for a command line.
    pub fn qemu_arguments(&self, id: &str) -> String {
        let options = self.qemu_options(id);
        options
            .map(|[option, value]| format!("{option} '{value}'"))
            .join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_is_told() {
        let vm = VmPort::new("/run/a,b.sock".into(), Some("02:00:00:00:00:01")).unwrap();
        assert_eq!(vm.name(), "a,b");
        assert_eq!(
            vm.qemu_arguments("vm"),
            "-chardev 'socket,id=vm,path=/run/a,,b.sock,reconnect-ms=200' -netdev 'vhost-user,id=net-vm,chardev=vm' \
             -device 'virtio-net-pci,netdev=net-vm,mac=02:00:00:00:00:01,host_mtu=9000,rx_queue_size=1024,tx_queue_size=1024'"
        );
        let plain = VmPort::new("/run/vm.sock".into(), None).unwrap();
        assert!(!plain.mac.is_multicast());
    }
}
