//! A whole network in a child process, loaded by the load generator.

use benches::client::Measured;
use benches::network::{Sales, add_terminals, command, furnish, mint, status, terminal_keys};
use benches::process::{Child, Result};
use engine::admin::KeyRow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A running network.
pub(crate) struct Pinwheel {
    pub(crate) child: Child,
    data: PathBuf,
    terminals: PathBuf,
}

impl Pinwheel {
    /// Starts one with so many terminals and PINs.
    pub(crate) fn start(data: &Path, terminals: usize, stock: u32) -> Result<Self> {
        let child = up(data, "127.0.0.1:0", stock)?;
        child.unpin();
        let file = data.join("limits.csv");
        furnish(data, &[(VARIETY, PRODUCT)])?;
        add_terminals(data, terminals, &file)?;
        mint(data, VARIETY, stock, 0)?;
        let network = Self { child, data: data.to_owned(), terminals: file };
        network.await_stock(u64::from(stock))?;
        network.child.await_rest()?;
        network.child.pin();
        Ok(network)
    }

    /// Sells for a time: in a closed loop, or open at a rate.
    pub(crate) fn sell(
        &self,
        connections: usize,
        window: usize,
        rate: Option<f64>,
        is_clear: bool,
        time: Duration,
    ) -> Result<Measured> {
        let (target, state) = (self.child.address.to_string(), self.data.join("loadgen"));
        let (target, terminals, state) = (target.as_str(), self.terminals.as_path(), state.as_path());
        let product = None;
        let sales = Sales { target, terminals, state, connections, window, rate, product, is_clear, time };
        benches::network::sell(&self.child, &self.child, &sales)
    }

    /// The terminals and their keys.
    pub(crate) fn keys(&self) -> Result<Vec<KeyRow>> {
        terminal_keys(&self.terminals)
    }

    /// Ends it in good order; the data directory stays.
    pub(crate) fn stop(self) -> Result<()> {
        self.child.end()
    }

    /// Waits until everything that was minted can be sold.
    fn await_stock(&self, stock: u64) -> Result<()> {
        let until = Instant::now() + STOCK_TIME_MAX;
        loop {
            let sellable: u64 = status(&self.data)?.varieties.iter().map(|variety| variety.sellable).sum();
            if sellable >= stock {
                return Ok(());
            }
            if Instant::now() > until {
                println!("only {sellable} of {stock} PINs can be sold at once");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Starts this program as a network that keeps so many PINs at its seller.
pub(crate) fn up(data: &Path, listen: &str, stock: u32) -> Result<Child> {
    let target = stock.to_string();
    let mut up = command(data)?;
    up.args(["--json", "up", "--empty", "--servers", "1", "--no-managers", "--clear", "--workers", "1"]);
    up.args(["--listen", listen]);
    up.args(["--low", &target, "--target", &target]);
    Child::start(up, |line| {
        let said: serde_json::Value = serde_json::from_str(line).ok()?;
        said["address"].as_str()?.parse().ok()
    })
}

/// What is sold.
pub(crate) const PRODUCT: u32 = 1;
const VARIETY: &str = "limits";
const STOCK_TIME_MAX: Duration = Duration::from_secs(60);
