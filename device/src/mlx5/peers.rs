//! What the cable asks the NIC: which queue pair sent a packet of a connection, which names its
//! destination only.

use rocinante_firmware_cmd::mlx5::qp::Qpc;
use rocinante_wire::cable::Peers;
use rocinante_wire::fault::Direction;
use rocinante_wire::roce::RoceFrame;

use super::Nic;

impl Peers for Nic {
    fn sender(&self, request: &RoceFrame, direction: Direction) -> Option<u32> {
        let dest_qp = request.packet.dest_qp;
        let l3 = &request.address.l3;
        match direction {
            Direction::Rx => {
                let qp = self.qps.get(dest_qp)?;
                qp.path.as_ref()?;
                Some(Qpc::new(&qp.context[..]).remote_qpn())
            }
            Direction::Tx => self.qps.iter().find_map(|(qpn, qp)| {
                let path = qp.path.as_ref()?;
                let is_it = path.remote == l3.dst_gid()
                    && path.local == l3.src_gid()
                    && Qpc::new(&qp.context[..]).remote_qpn() == dest_qp;
                is_it.then_some(qpn)
            }),
        }
    }
}
