//! The real network, all its threads, in the test's own process: so that something can stand between a worker and its
//! terminals.

use engine::admin::{MintOrder, Reply as Answer, Request as Ask, Site, VarietyRow, ask, serve};
use engine::cli::{clock, random};
use engine::net::{Meddler, listen};
use engine::network::{Failure, Network, Options, Selling};
use engine::steward::Levels;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A network that sells and answers its operators.
pub(crate) struct Live {
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    /// The terminals' keys.
    pub(crate) terminals: PathBuf,
    network: Option<Network>,
}

impl Live {
    /// Starts one in a new folder, with terminals and so many PINs of each of two varieties.
    pub(crate) fn start<M: Meddler>(
        folder: &Path,
        terminals: u32,
        pins: u32,
        meddler: impl Fn(usize) -> M,
    ) -> Self {
        let data = folder.join("network");
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let levels = Levels { low: pins, target: pins };
        let selling = Selling { listener, clear: true, workers: 2, connections_max: 1000, levels };
        let options = Options {
            data: data.clone(),
            selling: Some(selling),
            segment_bytes: 4 << 20,
            clock,
            random,
            fatal,
        };
        let network = Network::start_with(options, meddler).unwrap();
        serve(&data, network.office().clone(), Site { address: Some(address), stop: None }).unwrap();
        let mut live =
            Self { address, data, terminals: folder.join("terminals.csv"), network: Some(network) };
        live.furnish(terminals, pins);
        live
    }

    fn furnish(&mut self, terminals: u32, pins: u32) {
        self.ask(&Ask::AddDealer { name: "Corner shop".to_owned() });
        for (code, product) in [("airtime", 1001), ("power", 2001)] {
            self.ask(&Ask::AddVariety(VarietyRow {
                id: 0,
                code: code.to_owned(),
                product,
                face_value: 1000,
                currency: "ZAR".to_owned(),
                currency_digits: 2,
                name: code.to_owned(),
                receipt: String::new(),
                minimum_life_days: 0,
            }));
            let variety = code.to_owned();
            self.ask(&Ask::Mint(MintOrder {
                variety,
                count: pins,
                length: 16,
                letters: false,
                check: true,
                expiry: 0,
            }));
        }
        let Answer::Keys { keys } = self.ask(&Ask::AddTerminals { count: terminals, ids: vec![], dealer: 1 })
        else {
            panic!("no keys");
        };
        let mut text = "terminal,dealer,key_epoch,key\n".to_owned();
        for key in keys {
            let hex = key.key.expose().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            writeln!(text, "{},{},{},{hex}", key.terminal, key.dealer, key.key_epoch).unwrap();
        }
        std::fs::write(&self.terminals, text).unwrap();
        let until = Instant::now() + PATIENCE;
        let is_stocked = |answer| match answer {
            Answer::Status(status) => status.varieties.iter().all(|v| v.sellable == u64::from(pins)),
            other => panic!("{other:?}"),
        };
        while !is_stocked(self.ask(&Ask::Status)) {
            assert!(Instant::now() < until, "the stock does not arrive");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, request: &Ask) -> Answer {
        match ask(&self.data, request, None, drop).unwrap() {
            Answer::No { reason } => panic!("{reason}"),
            reply => reply,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(network) = self.network.take() {
            network.stop();
        }
    }
}

/// Its thread ends, and whoever asks for it hears nothing.
fn fatal(failure: &Failure) -> ! {
    panic!("{failure}");
}

const PATIENCE: Duration = Duration::from_secs(30);
