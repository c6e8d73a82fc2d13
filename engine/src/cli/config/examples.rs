//! What `--example` prints: every key of a configuration file, and what it is for.

/// What `pinwheel hub --example` prints.
pub(in crate::cli) const HUB_EXAMPLE: &str = r#"# A hub: `pinwheel hub --config hub.toml`. Paths are relative to this file.
data = "hub-data"
# Where servers connect. Links are always sealed.
listen = "127.0.0.1:7700"

# bulk_mib_per_s = 80  # what all servers together are sent in bulk, so that servers can sell meanwhile; 0: no limit
"#;

/// What `pinwheel server --example` prints.
pub(in crate::cli) const SERVER_EXAMPLE: &str = r#"# A server: `pinwheel server --config server.toml`. Paths are relative to this file.
data = "server-data"
# Where terminals connect.
listen = "127.0.0.1:7601"
# The hub's addresses, tried in turn.
hub = ["127.0.0.1:7700"]
# `pinwheel --data hub-data node add NAME --out server.token` at the hub makes it. Needed for the first start only.
token_file = "server.token"

# links = "127.0.0.1:7701"  # where host connection managers connect; links are always sealed
# others = ["10.0.0.2:7601"]  # where else terminals may connect when this address fails: servers or managers, as terminals reach them
# workers = 1          # threads that sell, at most 256; 0 or nothing: one for each core but one
# clear = true         # let terminals talk unsealed; only on loopback
# segment_mib = 64     # size of a journal segment, when the journal is begun, 1 to 1024
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
pub(in crate::cli) const HCM_EXAMPLE: &str = r#"# A host connection manager: `pinwheel hcm --config hcm.toml`. Paths are relative to this file.
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
