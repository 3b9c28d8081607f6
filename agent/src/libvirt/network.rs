//! Lists the networks of a connection, for the agent and for read-only queries.

use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;

use planner::from_libvirt::Networks;

/// All networks of a connection.
pub(super) fn networks(connect: &Connect) -> Result<Networks, Error> {
    let listed = connect.list_all_networks(0)?;
    // Skips a network that was undefined since the list was made.
    let read = |network: &Network| Some((network.name().ok()?, network.xml_desc(0).ok()?));
    Ok(Networks::new(listed.iter().filter_map(read)))
}
