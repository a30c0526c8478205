//! Network interfaces of the host, by name.

use pnet_datalink::NetworkInterface;

/// As many bytes as a name can have.
pub(super) const NAME_MAX: usize = 15;

/// The interface with this name. Asks the kernel for all of them: not for the data path.
pub(super) fn find(name: &str) -> Option<NetworkInterface> {
    let all = pnet_datalink::interfaces();
    all.into_iter().find(|interface| interface.name == name)
}
