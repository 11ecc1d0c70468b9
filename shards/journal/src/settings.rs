//! The bounds of a log.

/// Commits and headers begin at multiples of this, and are padded to it: the largest unit that disks write whole, so a write
/// never touches bytes that were durable before.
pub const SECTOR_BYTES: usize = 4096;

/// The longest commit, its header included.
pub(crate) const COMMIT_BYTES_MAX: usize = 1024 * 1024;

/// Bounds and delays of a writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of a segment, its header and its commits, at most. A multiple of [`SECTOR_BYTES`], and at least two of them.
    pub segment_bytes: u64,
    /// Bytes of the first segment of a start, likewise; each one after it is twice as long, up to `segment_bytes`. So a broker with little
    /// to keep takes little room, and begins at once.
    pub first_segment_bytes: u64,
    /// Bytes of records at which a commit is written, however short the time since the last one.
    pub commit_bytes: usize,
    /// Microseconds after the beginning of a write at which the next one begins, if somebody waits for it.
    pub commit_delay_us: u64,
    /// Microseconds after which a record is written that nobody waits for.
    pub unawaited_delay_us: u64,
    /// Writes that are under way at the same time. At least 1.
    pub writes_max: usize,
    /// Bytes that may wait for the disk, written or not. Past it [`crate::Writer::has_room`] says no.
    pub unsynced_bytes_max: u64,
    /// Microseconds after which a segment is created again that a full disk refused.
    pub retry_delay_us: u64,
    /// Bytes by which a log grows on the disk before it is time for another checkpoint; more, if the last checkpoint was longer.
    pub checkpoint_growth_bytes: u64,
    /// Microseconds after which another checkpoint is begun after one failed.
    pub checkpoint_retry_delay_us: u64,
}

impl Settings {
    /// The bounds of a log on a common disk.
    pub const DEFAULT: Self = Self {
        segment_bytes: 64 * 1024 * 1024,
        first_segment_bytes: 2 * 1024 * 1024,
        commit_bytes: 64 * 1024,
        commit_delay_us: 500,
        unawaited_delay_us: 50_000,
        writes_max: 2,
        unsynced_bytes_max: 8 * 1024 * 1024,
        retry_delay_us: 1_000_000,
        checkpoint_growth_bytes: 256 * 1024 * 1024,
        checkpoint_retry_delay_us: 60_000_000,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
