//! Latencies second by second as an HdrHistogram interval log, which the usual tools read.

use crate::tally::Interval;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Writes the log: values in nanoseconds, maxima in milliseconds; tag `service` has the times from the actual send.
pub(crate) fn write(
    path: &Path,
    began_unix_s: u64,
    intervals: &[Interval],
    is_open_loop: bool,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(began_unix_s);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("loadgen: nanoseconds from the intended send time to the PIN").with_start_time(began);
    builder.with_max_value_divisor(1e6);
    let mut log = builder.begin_log_with(&mut file, &mut serializer)?;
    let service = hdrhistogram::serialization::interval_log::Tag::new("service");
    let failed = |error: hdrhistogram::serialization::interval_log::IntervalLogWriterError<_>| {
        io::Error::other(format!("{error:?}"))
    };
    for interval in intervals {
        let (start, length) = (Duration::from_secs(interval.second), Duration::from_secs(1));
        log.write_histogram(&interval.latency, start, length, None).map_err(failed)?;
        if is_open_loop {
            log.write_histogram(&interval.service, start, length, service).map_err(failed)?;
        }
    }
    drop(log);
    file.flush()
}
