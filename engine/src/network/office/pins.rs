//! PINs that were sold, opened once more for the terminal that bought them: the hub has the file of every block.

use super::{NotDone, Office};
use crate::disk::Disk;
use crate::ids::{PinId, SellerId};
use crate::link::{Asked, Told};
use crate::registry::Registry;
use crate::stock::segment::block_path;
use crate::stock::{BlockKey, NodeKeys, SegmentFile};
use wire::message::{SequenceState, SettleAction, Sold};
use wire::settlement::SoldBox;

impl Office {
    /// A PIN that a seller sold which answers no more: [`sold_again`].
    ///
    /// # Errors
    /// [`NotDone`].
    pub(in crate::network) fn sold_again(
        &self,
        seller: SellerId,
        asked: &Asked,
        reference: u64,
    ) -> Result<SoldBox, NotDone> {
        let (registry, hub) = (self.registry()?, self.hub()?);
        Ok(sold_again(seller, asked, reference, &registry, &*hub.disk, &hub.keys))
    }
}

/// Whether the hub, which answers so for a seller, adds the PIN: it was sold and not voided, and is asked for.
pub(crate) fn is_pin_due(told: &Told, asked: &Asked) -> bool {
    let was_sold = matches!(told.state, SequenceState::Sold | SequenceState::Confirmed);
    was_sold && asked.action == SettleAction::Pin
}

/// A PIN that a seller sold which answers no more, in a box for the terminal that bought it and under the key that it has now;
/// none if the terminal has another key by now, or the hub's file of the block cannot be read. `disk` and `keys` are the hub's.
pub(crate) fn sold_again<D: Disk>(
    seller: SellerId,
    asked: &Asked,
    reference: u64,
    registry: &Registry,
    disk: &D,
    keys: &NodeKeys,
) -> SoldBox {
    let terminal = registry.terminal(asked.vend.terminal);
    let terminal = terminal.filter(|terminal| terminal.key_epoch == asked.vend.key_epoch);
    let Some(terminal) = terminal else { return SoldBox::NONE };
    match open_sold(asked.vend.sequence, reference, disk, keys) {
        Some(sold) => SoldBox::seal(terminal.key.expose(), asked.suite, seller, &sold),
        None => {
            tracing::warn!(
                reference,
                "a PIN that was sold cannot be opened: the hub's file of its block is damaged"
            );
            SoldBox::NONE
        }
    }
}

fn open_sold<D: Disk>(sequence: u64, reference: u64, disk: &D, keys: &NodeKeys) -> Option<Sold> {
    let pin = PinId(reference);
    let file = SegmentFile::open(disk, &block_path(pin.block())).ok()?;
    let header = *file.header();
    let key = keys.at_rest().unwrap(pin.block(), &header.key).ok()?;
    let record = file.record(pin.index())?;
    let (pin, serial) = BlockKey::new(header.properties, &key).open(pin.index(), record).ok()?;
    Some(Sold { sequence, reference, copy: 0, expiry: header.properties.expiry.0, pin, serial })
}
