//! Every bound of the engine that is not a format's, in one place.

/// Worker threads of one seller.
pub const WORKERS_MAX: u16 = 256;
/// Size of a segment of a node's journal, in MiB.
pub const SEGMENT_MIB_MAX: u16 = 1024;
/// Vends of one worker that may wait for a PIN at a time; more are told to come back.
pub const PARKED_VENDS_MAX: usize = 4096;
/// Longest that a vend waits for a PIN, in milliseconds, whatever its deadline.
pub const PARK_MS_MAX: u64 = 10_000;
/// Journal space that a worker reserves in one go, in records; less where segments are small.
pub const RECORDS_RESERVED_AT_ONCE: u32 = 256;
/// Reprints of one sequence.
pub const REPRINTS_MAX: u8 = 3;
/// How long a terminal is asked to wait before it repeats, in milliseconds.
pub const WAIT_MS: u32 = 500;

/// Connections of a node, whatever they have proved; the open files that the system allows may lower it.
pub const CONNECTIONS_MAX: usize = 200_000;
/// Connections that have not finished their handshake; more wait in the kernel.
pub const UNAUTHENTICATED_MAX: usize = 4096;
/// The same for one source address (of IPv6, for one /64 network); more are told to come back.
pub const UNAUTHENTICATED_PER_SOURCE_MAX: u32 = 1024;
/// Connections that the kernel holds for a listener.
pub const BACKLOG: i32 = 1024;
/// How long a connection may take for its hello, and then for its login, in milliseconds.
pub const LOGIN_MS_MAX: u64 = 10_000;
/// A terminal sends something at least this often, in seconds.
pub const PING_INTERVAL_S: u16 = 60;
/// A session that was silent this long is ended, in milliseconds.
pub const IDLE_MS_MAX: u64 = 120_000;
/// A session that was silent this long gives back its buffers and expanded keys, in milliseconds.
pub const REST_MS: u64 = 2_000;
/// A session that takes none of its replies for this long is ended, in milliseconds.
pub const STALL_MS_MAX: u64 = 10_000;
/// How long the last words to a terminal may take to arrive, in milliseconds.
pub const LINGER_MS_MAX: u64 = 1_000;
/// Bytes read of one session in one turn of its worker.
pub const READ_BYTES_MAX: usize = 4096;
/// Bytes of replies of one session that wait for their records; beyond that its requests wait.
pub const SESSION_WAITING_BYTES_MAX: usize = 32 * 1024;
/// Bytes of replies of one worker that wait for their records; beyond that all requests wait.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Room for records that a worker keeps free for what one request may make.
pub const RECORDS_PER_REQUEST_MAX: usize = 64;
/// Connections on their way from the front to one worker.
pub const ARRIVALS_MAX: usize = 1024;
/// Messages on their way from the steward or the bookkeeper to one worker.
pub const WORKER_MESSAGES_MAX: usize = 4096;
/// Questions to the history on their way, of all workers, and those of one worker that wait for its records; more are told
/// to come back.
pub const LOOKUPS_MAX: usize = 1024;
/// Dry lanes on their way to the steward; those that do not fit are noticed when their terminals ask again.
pub const DRY_SIGNALS_MAX: usize = 65_536;
/// How long a stopping worker waits for what is in flight, in milliseconds.
pub const STOP_MS_MAX: u64 = 5_000;
/// A terminal waits at least this long between attempts to connect, in milliseconds.
pub const BACK_OFF_MIN_MS: u32 = 200;
/// A terminal waits at most this long between attempts to connect, in milliseconds.
pub const BACK_OFF_MAX_MS: u32 = 10_000;

/// Terminals' sessions on one connection of a host connection manager; more are told to come back.
pub const CARRIED_SESSIONS_MAX: usize = 65_536;
/// Bytes on their way to a host connection manager beyond which nothing more is read from it.
pub const CARRIER_UNSENT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one carried session that wait to be taken in; a terminal that sends more is ended.
pub const CARRIED_INPUT_BYTES_MAX: usize = 32 * 1024;
/// Connections of host connection managers on their way to one worker.
pub const CARRIERS_ARRIVING_MAX: usize = 256;

/// Questions about sequences of other sellers that a worker has open, and as many of other sellers' terminals; more are in
/// doubt at once.
pub const SETTLING_MAX: usize = 4096;
/// How long a terminal waits for what another seller says of a sequence, in milliseconds; then it is in doubt.
pub const SETTLE_MS_MAX: u64 = 3_000;

/// How often either connection of a link is pinged, in milliseconds.
pub const LINK_PING_MS: u64 = 5_000;
/// A link on which nothing came, or went though it should, for so long is cut; in milliseconds.
pub const LINK_SILENCE_MS_MAX: u64 = 15_000;
/// How long a link may take to come up, in milliseconds.
pub const LINK_HANDSHAKE_MS_MAX: u64 = 5_000;
/// Connections at the hub that are not part of a link that is up.
pub const LINK_HANDSHAKES_MAX: usize = 256;
/// Bytes that may wait to be sent on one connection of a link, beside one message.
pub const LINK_OUTBOUND_BYTES_MAX: usize = 64 << 20;
/// A node waits at least this long between attempts to reach its hub, in milliseconds, before jitter.
pub const LINK_BACK_OFF_MIN_MS: u64 = 100;
/// A node waits at most this long between attempts to reach its hub, in milliseconds.
pub const LINK_BACK_OFF_MAX_MS: u64 = 5_000;

/// Bytes that may wait at a relay for a terminal that does not read; with more it is cut.
pub const RELAY_UNREAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that may wait at a relay for one worker of the server before it stops reading the terminals that go there.
pub const RELAY_UNSENT_BYTES_MAX: usize = 256 * 1024;
/// Hellos that a relay has on their way to one worker; more wait their turn.
pub const RELAY_OPENS_MAX: u32 = 256;
/// How long a hello waits at a relay for a server, or for its turn, before its terminal is told to say it again; in milliseconds.
pub const RELAY_HOLD_MS: u64 = 2_000;
/// The shortest and the longest wait that a relay asks for before a new hello, in milliseconds. It grows with the number of those
/// who are asked.
pub const RELAY_RENEW_MS: (u32, u32) = (200, 3_000);
/// A relay waits at least and at most so long between attempts to reach a server, in milliseconds, before jitter.
pub const RELAY_BACK_OFF_MS: (u64, u64) = (100, 1_000);
/// Connections of one source address at a relay (of IPv6, one /64 network), where nothing else is configured.
pub const RELAY_CONNECTIONS_PER_SOURCE_MAX: u32 = 20_000;
