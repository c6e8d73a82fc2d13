//! A hub that is away.

use super::pair::End::{Hub, Server};
use super::pair::Pair;
use crate::network::{holds, sell};
use crate::support::ends::Ends;
use crate::support::nodes::Site;
use crate::support::scratch;

/// A day of it, in virtual time and with more than one segment of journal, is in `src/sim/scripted/away.rs`.
#[test]
fn law_8_a_server_sells_without_its_hub_also_after_a_kill_and_tells_every_sale_when_the_hub_is_back() {
    let scratch = scratch();
    let mut pair = Pair::new(Site::new(scratch.path()), (100, 500, 800), 1000);
    pair.start(Server);
    pair.server().wait_for("stock", |status| holds(status, 500));
    pair.kill(Hub);
    pair.server().wait_for("the hub's absence", |status| !status.sellers[0].linked);
    let told = pair.server().status().sellers[0].journal_acknowledged;
    let mut sold: Vec<_> = (1..=200).map(|sequence| sell(pair.server(), &pair.key, sequence, 1)).collect();
    pair.start(Server);
    sold.extend((201..=450).map(|sequence| sell(pair.server(), &pair.key, sequence, 1)));
    let status = pair.server().status();
    assert!(status.sellers[0].journal_durable > told + 450 * 64, "{told} {status:?}");
    pair.start(Hub);
    // Below its low mark it is stocked again, too.
    pair.server().wait_for("stock", |status| holds(status, 500));
    pair.settle(&sold);
}
