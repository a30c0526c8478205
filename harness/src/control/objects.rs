//! Objects of a NIC.

use rocinante_device::mlx5::inspect::{self, Kind};
use rocinante_device::mlx5::leak::Inventory;
use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::nic::{gone, named};
use super::protocol::Failure;
use crate::serve::ServerHandle;

/// Objects of one answer, if the request says nothing.
const DEFAULT_LIMIT: u64 = 64;

/// Executes `query-objects`.
pub fn query(server: &ServerHandle, arguments: &Arguments) -> Result<Value, Failure> {
    let n = named(server, arguments, "nic")?;
    let Some(kind) = arguments.text("kind") else {
        let inventory = server.look(n, Inventory::of).ok_or_else(gone)?;
        let counts: Map<String, Value> = inventory
            .objects
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), json!(count)))
            .collect();
        return Ok(json!({ "counts": counts, "pages": inventory.pages }));
    };
    let kind: Kind = kind.parse().map_err(Failure::argument)?;
    // Numbers have 24 bits.
    let from = u32::try_from(arguments.number("from").unwrap_or(0)).unwrap_or(u32::MAX);
    let limit = arguments.number("limit").unwrap_or(DEFAULT_LIMIT);
    let most = inspect::MAX_OBJECTS;
    if !(1..=most as u64).contains(&limit) {
        let desc = format!("'limit' of query-objects is 1 to {most}");
        return Err(Failure::argument(desc));
    }
    let look = move |nic: &_| inspect::objects(nic, kind, from, limit as usize);
    let page = server.look(n, look).ok_or_else(gone)?;
    Ok(json!(page))
}
