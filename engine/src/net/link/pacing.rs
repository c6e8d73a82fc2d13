//! A token bucket: what may be sent in bulk now.

/// Fills with `rate` bytes in every second up to a twentieth of that, or one frame if that is more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In bytes per second; `None`: everything may go at once.
    rate: Option<u64>,
    /// In thousandths of a byte.
    level: u64,
    filled_ms: u64,
}

impl Bucket {
    pub(super) fn new(rate: Option<u64>, now_ms: u64) -> Self {
        let mut bucket = Self { rate, level: 0, filled_ms: now_ms };
        bucket.level = bucket.level_max();
        bucket
    }

    /// How many bytes may go now.
    pub(super) fn available(&mut self, now_ms: u64) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let came = now_ms.saturating_sub(self.filled_ms).saturating_mul(rate);
        self.level = self.level.saturating_add(came).min(self.level_max());
        self.filled_ms = now_ms;
        usize::try_from(self.level / 1000).unwrap_or(usize::MAX)
    }

    /// So many went.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.level = self.level.saturating_sub((bytes as u64).saturating_mul(1000));
    }

    fn level_max(&self) -> u64 {
        self.rate.map_or(0, |rate| rate.saturating_mul(1000 / BURSTS_PER_S).max(BURST_BYTES_MIN * 1000))
    }
}

const BURSTS_PER_S: u64 = 20;
const BURST_BYTES_MIN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_through_what_the_rate_says_and_one_burst() {
        let rate = 10_000_000;
        let mut bucket = Bucket::new(Some(rate), 0);
        let mut sent = 0;
        for now_ms in 0..1000 {
            let now = bucket.available(now_ms).min(100_000);
            bucket.spend(now);
            sent += now as u64;
        }
        assert!((rate..=rate + rate / 20).contains(&sent), "{sent}");
        assert_eq!(bucket.available(1_000_000), 500_000, "idle time is not saved up");
        assert_eq!(Bucket::new(None, 0).available(0), usize::MAX);
    }

    #[test]
    fn a_slow_rate_still_lets_whole_frames_through_in_time() {
        let mut bucket = Bucket::new(Some(1000), 0);
        let burst = bucket.available(0);
        bucket.spend(burst);
        assert_eq!(bucket.available(0), 0);
        assert_eq!(bucket.available(500), 500);
        assert_eq!(bucket.available(501), 501);
    }
}
