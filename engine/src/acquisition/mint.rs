//! The supplier that is ourselves. The hub's books say how much of an order was issued, so that it can be done again from
//! the books alone: nothing is ever issued twice.

use super::config::MintTerms;
use super::{Accepted, Acquisition, Expected, HubAccess, Setback, Supplier, open_orders};
use crate::intake::{MINT_PINS_MAX, Recipe, Source};

/// Issues what is missing of every open order.
pub(super) fn issue(
    acquisition: &mut Acquisition,
    supplier: &Supplier,
    terms: &MintTerms,
    hub: &impl HubAccess,
    stopping: &dyn Fn() -> bool,
) -> Result<(), Setback> {
    for order in open_orders(hub, supplier)? {
        let registry = hub.registry()?;
        let Some(variety) = registry.variety(order.variety) else { continue };
        let mut missing = order.missing();
        while missing > 0 && !stopping() {
            let count = u32::try_from(missing).unwrap_or(u32::MAX).min(MINT_PINS_MAX);
            let source = Source { order: order.number, digest: 0, name: supplier.name.clone() };
            let expiry = terms.life.expiry(hub.now_ms());
            let expected = Expected { variety: variety.code.clone(), expiry, source };
            let issued = hub.mint(&expected, &Recipe { count, ..terms.recipe.clone() });
            let matter = format!("{}, order {}", supplier.name, order.number.0);
            let Accepted { batch, pins } = match issued {
                Ok(accepted) => accepted,
                // Other orders may be issued all the same.
                Err(setback) => {
                    acquisition.note(&matter, Err(setback));
                    break;
                }
            };
            acquisition.note(&matter, Ok(()));
            tracing::info!("{matter}: {pins} PINs issued as batch {batch}");
            missing -= pins.min(missing);
        }
    }
    Ok(())
}
