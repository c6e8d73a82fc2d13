//! Configuration files of nodes: TOML, in which an unknown key is an error. Paths in them are relative to the file.

mod examples;

pub(super) use examples::{HCM_EXAMPLE, HUB_EXAMPLE, SERVER_EXAMPLE};

use super::Exit;
use crate::limits::{SEGMENT_MIB_MAX, WORKERS_MAX};
use crate::network::{JoinToken, UNREPORTED_ALARM_S};
use crate::policy::{AutoLevels, LevelRule};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use wire::message::ADDRESSES_MAX;
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
pub(super) fn read<T: Config>(path: &Path) -> Result<(T, PathBuf), Exit> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::unreachable(format!("cannot read {}: {error}", path.display())))?;
    let config = T::parse(&text).map_err(|error| Exit::usage(format!("{}: {error}", path.display())))?;
    Ok((config, path.parent().unwrap_or(Path::new("")).to_owned()))
}

/// Which command reads a configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Configuration {
    /// `pinwheel hub`.
    Hub,
    /// `pinwheel server`.
    Server,
    /// `pinwheel hcm`, of either mode.
    Hcm,
}

impl Configuration {
    /// Judges the text of such a file as the command does, before any file or socket that it names is touched.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Hub => HubConfig::parse(text).map(drop),
            Self::Server => ServerConfig::parse(text).map(drop),
            Self::Hcm => HcmConfig::parse(text).map(drop),
        }
    }
}

/// What a command reads from its configuration file. None that could not be run comes out of [`Self::parse`].
pub(super) trait Config: DeserializeOwned {
    /// What TOML and types cannot say of it.
    fn check(&self) -> Result<(), String>;

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }
}

impl Config for HubConfig {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Config for ServerConfig {
    fn check(&self) -> Result<(), String> {
        if !self.auto.is_ordered() {
            return Err("auto: low_h is at most target_h, and that at most high_h".to_owned());
        }
        if self.clear && !self.listen.ip().is_loopback() {
            return Err("clear shows PINs to the network: it is for loopback addresses only".to_owned());
        }
        if self.hub.is_empty() {
            return Err("hub: name at least one address, such as \"127.0.0.1:7700\"".to_owned());
        }
        if self.workers > WORKERS_MAX {
            return Err(format!("workers: at most {WORKERS_MAX}; 0 is one for each core but one"));
        }
        if !(1..=SEGMENT_MIB_MAX).contains(&self.segment_mib) {
            return Err(format!("segment_mib: from 1 to {SEGMENT_MIB_MAX}"));
        }
        check_others(&self.others)
    }
}

impl Config for HcmConfig {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Relay(relay) if relay.servers.is_empty() => {
                Err("servers: name at least one address, such as \"127.0.0.1:7701\"".to_owned())
            }
            Self::Relay(relay) => check_others(&relay.others),
            Self::Cache(cache) => cache.check(),
        }
    }
}

fn check_others(others: &[SocketAddr]) -> Result<(), String> {
    match others.len() > ADDRESSES_MAX {
        true => Err(format!("others: a welcome has room for {ADDRESSES_MAX} addresses")),
        false => Ok(()),
    }
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

    /// What would only be found out when a node runs: it is refused before.
    #[test]
    fn law_9_what_cannot_be_run_is_refused_with_the_key_that_is_wrong() {
        let server = |line: &str| Configuration::Server.check(&format!("{line}\n{SERVER_EXAMPLE}"));
        for (line, key) in [
            ("segment_mib = 0", "segment_mib"),
            ("segment_mib = 1025", "segment_mib"),
            ("workers = 257", "workers"),
            (
                "others = [\"1.1.1.1:1\", \"1.1.1.1:2\", \"1.1.1.1:3\", \"1.1.1.1:4\", \"1.1.1.1:5\"]",
                "others",
            ),
            ("auto = { low_h = 9, target_h = 8 }", "auto"),
        ] {
            assert!(server(line).unwrap_err().starts_with(key), "{line}");
        }
        assert_eq!(server("segment_mib = 1\nworkers = 256"), Ok(()));
        let nobody = SERVER_EXAMPLE.replace("[\"127.0.0.1:7700\"]", "[]");
        assert!(Configuration::Server.check(&nobody).unwrap_err().starts_with("hub"));
        let shown = SERVER_EXAMPLE.replace("127.0.0.1:7601", "10.0.0.1:7601");
        assert!(
            Configuration::Server.check(&format!("clear = true\n{shown}")).unwrap_err().starts_with("clear")
        );
        let cache = format!("mode = \"cache\"\nsegment_mib = 0\n{SERVER_EXAMPLE}");
        assert!(Configuration::Hcm.check(&cache).unwrap_err().starts_with("segment_mib"));
        let nowhere = HCM_EXAMPLE.replace("[\"127.0.0.1:7701\"]", "[]");
        assert!(Configuration::Hcm.check(&nowhere).unwrap_err().starts_with("servers"));
    }
}
