//! PINs that were sold, opened once more for the terminal that bought them: the hub has the file of every block.

use super::{NotDone, Office};
use crate::ids::{PinId, SellerId};
use crate::link::Asked;
use crate::stock::segment::block_path;
use crate::stock::{BlockKey, SegmentFile};
use wire::message::Sold;
use wire::settlement::SoldBox;

impl Office {
    /// A PIN that a seller sold which answers no more, in a box for the terminal that bought it and under the key that it has now;
    /// none if the terminal has another key by now, or the hub's file of the block cannot be read.
    ///
    /// # Errors
    /// [`NotDone`].
    pub(in crate::network) fn sold_again(
        &self,
        seller: SellerId,
        asked: &Asked,
        reference: u64,
    ) -> Result<SoldBox, NotDone> {
        let registry = self.registry()?;
        let terminal = registry.terminal(asked.vend.terminal);
        let terminal = terminal.filter(|terminal| terminal.key_epoch == asked.vend.key_epoch);
        let (Some(terminal), Some(sold)) = (terminal, self.open_sold(asked.vend.sequence, reference)?) else {
            return Ok(SoldBox::NONE);
        };
        Ok(SoldBox::seal(terminal.key.expose(), asked.suite, seller, &sold))
    }

    fn open_sold(&self, sequence: u64, reference: u64) -> Result<Option<Sold>, NotDone> {
        let hub = self.hub()?;
        let pin = PinId(reference);
        let opened = SegmentFile::open(&*hub.disk, &block_path(pin.block())).ok().and_then(|file| {
            let header = *file.header();
            let key = hub.keys.at_rest().unwrap(pin.block(), &header.key).ok()?;
            let opened = BlockKey::new(header.properties, &key).open(pin.index(), file.record(pin.index())?);
            opened.ok().map(|(pin, serial)| (pin, serial, header.properties.expiry.0))
        });
        if opened.is_none() {
            tracing::warn!(
                reference,
                "a PIN that was sold cannot be opened: the hub's file of its block is damaged"
            );
        }
        let sold = |(pin, serial, expiry)| Sold { sequence, reference, copy: 0, expiry, pin, serial };
        Ok(opened.map(sold))
    }
}
