//! Configuration files of nodes: TOML, in which an unknown key is an error. Paths in them are relative to the file.

use super::Exit;
use crate::network::{JoinToken, UNREPORTED_ALARM_S};
use crate::policy::{AutoLevels, LevelRule};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use wire::message::{ADDRESSES_MAX, Addresses};
use zeroize::Zeroizing;

/// How to run a hub.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HubConfig {
    /// The data directory.
    pub(super) data: PathBuf,
    /// Where servers connect.
    pub(super) listen: SocketAddr,
    /// What all servers together are sent in bulk, in MiB per second; 0: no limit.
    #[serde(default = "bulk_mib_per_s")]
    pub(super) bulk_mib_per_s: u32,
}

fn bulk_mib_per_s() -> u32 {
    80
}

/// How to run a server.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerConfig {
    /// The data directory.
    pub(super) data: PathBuf,
    /// Where terminals connect.
    pub(super) listen: SocketAddr,
    /// Where host connection managers connect; none: there are none.
    #[serde(default)]
    pub(super) links: Option<SocketAddr>,
    /// Where else terminals may connect: their welcomes say so.
    #[serde(default)]
    pub(super) others: Vec<SocketAddr>,
    /// The addresses of the one above, tried in turn: the hub, or the server that this node is below.
    #[serde(alias = "upstream")]
    pub(super) hub: Vec<String>,
    /// A file with the join token, needed the first time.
    pub(super) token_file: Option<PathBuf>,
    /// Worker threads; 0: one for each core but one.
    #[serde(default)]
    pub(super) workers: u16,
    /// Whether terminals may talk in clear; for loopback only.
    #[serde(default)]
    pub(super) clear: bool,
    /// Size of a journal segment, when the journal is begun, in MiB.
    #[serde(default = "segment_mib")]
    pub(super) segment_mib: u16,
    /// After how many seconds sales that the hub does not know of are an alarm.
    #[serde(default = "unreported_alarm_s")]
    pub(super) unreported_alarm_s: u32,
    /// The marks of every variety that has none of its own: `"auto"`, or low, target and high in PINs.
    #[serde(default)]
    pub(super) levels: LevelRule,
    /// The same by a variety's code.
    #[serde(default)]
    pub(super) variety_levels: BTreeMap<String, LevelRule>,
    /// How `"auto"` follows sales.
    #[serde(default)]
    pub(super) auto: AutoLevels,
}

fn unreported_alarm_s() -> u32 {
    UNREPORTED_ALARM_S
}

fn segment_mib() -> u16 {
    64
}

/// How to run a host connection manager.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub(super) enum HcmConfig {
    /// It carries sessions to a server.
    Relay(RelayConfig),
    /// It sells from a cache of its own, which a server fills.
    Cache(ServerConfig),
}

/// How to run one that only relays.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayConfig {
    /// Where terminals connect.
    pub(super) listen: SocketAddr,
    /// The network device that they connect over; none: any.
    pub(super) listen_device: Option<String>,
    /// Where else they may connect: their welcomes say so.
    #[serde(default)]
    pub(super) others: Vec<SocketAddr>,
    /// The servers' link addresses, one used at a time, tried in turn.
    pub(super) servers: Vec<String>,
    /// The network device that servers are called over; none: the system's choice.
    pub(super) server_device: Option<String>,
    /// The address that servers are called from; none: the system's choice.
    pub(super) server_source: Option<IpAddr>,
    /// A file with the join token, needed at every start.
    pub(super) token_file: PathBuf,
    /// Where commands reach it; none: nowhere.
    pub(super) run_dir: Option<PathBuf>,
    /// Most connections; none: as many as the system allows.
    pub(super) connections_max: Option<usize>,
    /// Most connections from one address (of IPv6, one /64 network).
    pub(super) connections_per_source_max: Option<u32>,
}

/// A configuration, and the directory that its paths are relative to.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), Exit> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::unreachable(format!("cannot read {}: {error}", path.display())))?;
    let config =
        toml::from_str(&text).map_err(|error| Exit::usage(format!("{}: {error}", path.display())))?;
    Ok((config, path.parent().unwrap_or(Path::new("")).to_owned()))
}

/// Other addresses for welcomes.
pub(super) fn others(configured: &[SocketAddr]) -> Result<Addresses, Exit> {
    if configured.len() > ADDRESSES_MAX {
        return Err(Exit::usage(format!("others: a welcome has room for {ADDRESSES_MAX} addresses")));
    }
    Ok(Addresses::of(configured.iter().copied()))
}

impl ServerConfig {
    /// The join token; none if none is named, or its file has been removed after the first start.
    pub(super) fn token(&self, base: &Path) -> Result<Option<JoinToken>, Exit> {
        let Some(path) = &self.token_file else { return Ok(None) };
        read_token(&base.join(path))
    }
}

/// The join token in a file; none if there is no such file.
pub(super) fn read_token(path: &Path) -> Result<Option<JoinToken>, Exit> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => {
            text.map_err(|error| Exit::unreachable(format!("cannot read {}: {error}", path.display())))?
        }
    };
    let text = Zeroizing::new(text);
    let token = text.parse().map_err(|error| Exit::usage(format!("{}: {error}", path.display())))?;
    Ok(Some(token))
}

/// What `pinwheel hub --example` prints.
pub(super) const HUB_EXAMPLE: &str = r#"# A hub: `pinwheel hub --config hub.toml`. Paths are relative to this file.
data = "hub-data"
# Where servers connect. Links are always sealed.
listen = "127.0.0.1:7700"

# bulk_mib_per_s = 80  # what all servers together are sent in bulk, so that servers can sell meanwhile; 0: no limit
"#;

/// What `pinwheel server --example` prints.
pub(super) const SERVER_EXAMPLE: &str = r#"# A server: `pinwheel server --config server.toml`. Paths are relative to this file.
data = "server-data"
# Where terminals connect.
listen = "127.0.0.1:7601"
# The hub's addresses, tried in turn.
hub = ["127.0.0.1:7700"]
# `pinwheel --data hub-data node add NAME --out server.token` at the hub makes it. Needed for the first start only.
token_file = "server.token"

# links = "127.0.0.1:7701"  # where host connection managers connect; links are always sealed
# others = ["10.0.0.2:7601"]  # where else terminals may connect when this address fails: servers or managers, as terminals reach them
# workers = 1          # threads that sell; 0 or nothing: one for each core but one
# clear = true         # let terminals talk unsealed; only on loopback
# segment_mib = 64     # size of a journal segment, when the journal is begun
# unreported_alarm_s = 60  # after so many seconds sales that the hub does not know of are an alarm

# Below `low` PINs of a variety the server asks the hub for as many as bring it up to `target`; above `high` the hub may
# take back. Or "auto": the marks follow what is sold.
levels = { low = 5000, target = 20000, high = 40000 }

# [variety_levels]     # for single varieties, by their codes
# airtime-za-10 = "auto"

# [auto]               # hours of cover at the rate of sales, and the least marks in PINs
# low_h = 6
# target_h = 12
# high_h = 18
# floor = { low = 50, target = 100, high = 200 }
"#;

/// What `pinwheel hcm --example` prints.
pub(super) const HCM_EXAMPLE: &str = r#"# A host connection manager: `pinwheel hcm --config hcm.toml`. Paths are relative to this file.
# It relays: sessions of terminals are carried to a server, and nothing is kept here.
mode = "relay"
# The other `mode = "cache"` has a stock of its own: all else is as in `pinwheel server --example`, with `upstream` for `hub`, which
# are the link addresses of the server that it was added below (`node add NAME --below SERVER`).
# Where terminals connect.
listen = "127.0.0.1:7651"
# The servers' link addresses (`links` in their configurations). One is used at a time; when it is lost, the next in turn.
servers = ["127.0.0.1:7701"]
# `pinwheel --data hub-data node add NAME --relay --out hcm.token` at the hub makes it. Needed at every start.
token_file = "hcm.token"
# Where `pinwheel --data DIR status` and `stop` reach it: a lock and a socket are there, nothing else.
run_dir = "hcm-run"

# others = ["10.0.0.2:7651"]  # where else terminals may connect when this address fails: managers or servers, as terminals reach them
# listen_device = "eth1"   # terminals connect over this network device only
# server_device = "eth0"   # servers are called over this one
# server_source = "10.0.0.7"  # servers are called from this address
# connections_max = 20000  # at most as many as the system allows open files
# connections_per_source_max = 20000  # from one address; of IPv6, from one /64 network
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Levels;

    #[test]
    fn the_examples_can_be_read() {
        let hub: HubConfig = toml::from_str(HUB_EXAMPLE).unwrap();
        assert_eq!((hub.data.as_path(), hub.bulk_mib_per_s), (Path::new("hub-data"), bulk_mib_per_s()));
        let server: ServerConfig = toml::from_str(SERVER_EXAMPLE).unwrap();
        assert_eq!((server.workers, server.clear, server.segment_mib), (0, false, 64));
        assert_eq!(server.levels, LevelRule::Fixed(Levels::new(5_000, 20_000, 40_000).unwrap()));
        // What is commented out can be read, too, and says what holds without it.
        let is_setting =
            |line: &str| line.starts_with("# ") && (line.contains(" = ") || line.contains("# ["));
        let uncomment = |line: &str| match is_setting(line) && !line.contains('`') {
            true => format!("{}\n", &line[2..]),
            false => format!("{line}\n"),
        };
        let uncommented: String = SERVER_EXAMPLE.lines().map(uncomment).collect();
        let full: ServerConfig = toml::from_str(&uncommented).unwrap();
        assert_eq!((full.workers, full.clear, full.variety_levels.len(), full.others.len()), (1, true, 1, 1));
        assert_eq!((full.segment_mib, full.auto), (server.segment_mib, server.auto));
        let HcmConfig::Relay(relay) = toml::from_str(HCM_EXAMPLE).unwrap() else { panic!("it relays") };
        assert_eq!((relay.servers.len(), relay.connections_max), (1, None));
        let uncommented: String = HCM_EXAMPLE.lines().map(uncomment).collect();
        let HcmConfig::Relay(full) = toml::from_str(&uncommented).unwrap() else { panic!("it relays") };
        assert_eq!(full.connections_per_source_max, Some(crate::limits::RELAY_CONNECTIONS_PER_SOURCE_MAX));
        assert_eq!(full.others.len(), 1);
        assert!(full.listen_device.is_some() && full.server_device.is_some() && full.server_source.is_some());
        // A cache is configured as a server is.
        let cache = format!("mode = \"cache\"\n{}", SERVER_EXAMPLE.replace("\nhub =", "\nupstream ="));
        let HcmConfig::Cache(cache) = toml::from_str(&cache).unwrap() else { panic!("it caches") };
        assert_eq!(cache, server);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<HubConfig>(&format!("{HUB_EXAMPLE}\nlisten_to = 1\n")).unwrap_err();
        assert!(error.to_string().contains("listen_to"), "{error}");
        let error = toml::from_str::<HcmConfig>(&format!("{HCM_EXAMPLE}\nlisten_to = 1\n")).unwrap_err();
        assert!(error.to_string().contains("listen_to"), "{error}");
    }
}
