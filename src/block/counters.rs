//! Counters of a disk. They count a request when it completes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use super::request::{Extent, Operation, Request, RequestError, Success};

/// Size of the requests that a larger one counts for, as Hyper-V measures disks.
const NORMAL: u64 = 8192;
/// Number of buckets of the histogram. The last one begins at 2^22 µs, about four seconds.
const BUCKETS: usize = 24;

/// The counters of one disk, which all of its users share. See [`DiskCounts`] for what they count.
#[derive(Debug, Default)]
pub(super) struct DiskCounters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    unmaps: AtomicU64,
    others: AtomicU64,
    normalized: AtomicU64,
    errors: AtomicU64,
    cancelled: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    latency_nanoseconds: AtomicU64,
}

/// The counters of one disk at one moment. Each completed request counts once in `reads`, `writes`, `flushes`,
/// `unmaps`, `others`, `errors` or `cancelled`, and once in `latency`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskCounts {
    /// Reads, checks and comparisons.
    pub reads: u64,
    /// Bytes that they read.
    pub read_bytes: u64,
    /// Writes of data and zeros, and atomic operations.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Flushes. A durable write is not one.
    pub flushes: u64,
    /// Requests that released space.
    pub unmaps: u64,
    /// Requests that moved no data: prefetches, and maps of what is allocated.
    pub others: u64,
    /// Reads and writes in units of 8 KiB: one of 8 KiB or less counts once, one of 20 KiB three times.
    pub normalized: u64,
    /// Requests that failed. A comparison that finds a difference has not failed.
    pub errors: u64,
    /// Requests that were cancelled by a reset, a removal, or the end of their channel.
    pub cancelled: u64,
    /// Requests that are in flight now.
    pub in_flight: u64,
    /// Maximum of `in_flight` so far.
    pub max_in_flight: u64,
    /// Number of requests by the time that they took: bucket `n` has those of less than 2^n µs that are not in a bucket
    /// before it, and the last bucket has all that took longer.
    pub latency: [u64; BUCKETS],
    /// The time that all of these requests took together.
    pub latency_nanoseconds: u64,
}

impl DiskCounters {
    /// Counts a request that begins.
    pub fn begin(&self) {
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        // Most requests change nothing, and a read is cheaper.
        if now > self.max_in_flight.load(Relaxed) {
            self.max_in_flight.fetch_max(now, Relaxed);
        }
    }

    /// Counts a request that ends, in whatever way.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Counts the result of a request that took that long.
    pub fn count(&self, request: &Request, result: &Result<Success, RequestError>, took: Duration) {
        self.latency[bucket(took)].fetch_add(1, Relaxed);
        self.latency_nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let (requests, bytes) = match result {
            Err(RequestError::Cancelled) => (&self.cancelled, None),
            Ok(_) | Err(RequestError::Miscompare(_)) => self.kind(&request.operation),
            Err(_) => (&self.errors, None),
        };
        requests.fetch_add(1, Relaxed);
        if let Some((bytes, Extent { length, .. })) = bytes {
            bytes.fetch_add(length, Relaxed);
            self.normalized.fetch_add(length.div_ceil(NORMAL).max(1), Relaxed);
        }
    }

    fn kind(&self, operation: &Operation) -> (&AtomicU64, Option<(&AtomicU64, Extent)>) {
        match operation {
            Operation::Read(extent) | Operation::Check(extent) | Operation::Compare { extent, .. } => {
                (&self.reads, Some((&self.read_bytes, *extent)))
            }
            Operation::Write(extent)
            | Operation::WriteAndVerify { extent, .. }
            | Operation::CompareAndWrite(extent)
            | Operation::Or(extent)
            | Operation::Fill { extent, .. }
            | Operation::Zero { extent, deallocate: false } => (&self.writes, Some((&self.written_bytes, *extent))),
            Operation::Flush => (&self.flushes, None),
            Operation::Unmap(_) | Operation::Zero { .. } => (&self.unmaps, None),
            Operation::Prefetch(_) | Operation::Map { .. } => (&self.others, None),
        }
    }

    /// Returns the values, each as it is at some moment during the call.
    pub fn snapshot(&self) -> DiskCounts {
        DiskCounts {
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            unmaps: self.unmaps.load(Relaxed),
            others: self.others.load(Relaxed),
            normalized: self.normalized.load(Relaxed),
            errors: self.errors.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            // Last, because they are counted first: what is counted by kind is in them.
            latency: self.latency.each_ref().map(|counter| counter.load(Relaxed)),
            latency_nanoseconds: self.latency_nanoseconds.load(Relaxed),
        }
    }
}

fn bucket(took: Duration) -> usize {
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let bits = u64::BITS - microseconds.leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::extent;
    use super::*;

    #[test]
    fn a_latency_bucket_counts_requests_shorter_than_its_power_of_two() {
        let of = |microseconds| bucket(Duration::from_micros(microseconds));
        assert_eq!([0, 1, 2, 3, 4, 1023, 1024].map(of), [0, 1, 2, 2, 3, 10, 11]);
        assert_eq!([(1 << 22) - 1, 1 << 22, u64::MAX].map(of), [22, 23, 23]);
        assert_eq!(bucket(Duration::MAX), 23);
    }

    #[test]
    fn each_request_is_counted_once_by_kind_and_result() {
        let counters = DiskCounters::default();
        let all = extent(512, 100);
        let count = |operation, result| {
            counters.begin();
            counters.count(&Request { operation, durable: false }, &result, Duration::from_micros(3));
            counters.end();
        };
        count(Operation::Read(all), Ok(Success::Done));
        count(Operation::Compare { extent: all, repeat: None }, Err(RequestError::Miscompare(7)));
        count(Operation::Write(all), Ok(Success::Done));
        count(Operation::Zero { extent: all, deallocate: false }, Ok(Success::Done));
        count(Operation::Zero { extent: all, deallocate: true }, Ok(Success::Done));
        count(Operation::Flush, Ok(Success::Done));
        count(Operation::Map { extent: all, limit: 1 }, Ok(Success::Map(Vec::new())));
        count(Operation::Write(all), Err(RequestError::NoSpace(512)));
        count(Operation::Check(all), Err(RequestError::Cancelled));
        let mut latency = [0; BUCKETS];
        latency[2] = 9;
        let expected = DiskCounts {
            reads: 2,
            read_bytes: 200,
            writes: 2,
            written_bytes: 200,
            flushes: 1,
            unmaps: 1,
            others: 1,
            normalized: 4,
            errors: 1,
            cancelled: 1,
            in_flight: 0,
            max_in_flight: 1,
            latency,
            latency_nanoseconds: 27_000,
        };
        assert_eq!(counters.snapshot(), expected);
    }

    #[test]
    fn a_large_request_counts_once_for_each_8_kib() {
        let count = |length| {
            let counters = DiskCounters::default();
            let operation = Operation::Read(extent(0, length));
            counters.count(&Request { operation, durable: false }, &Ok(Success::Done), Duration::ZERO);
            counters.snapshot().normalized
        };
        assert_eq!([0, 512, 8192, 8193, 20 << 10, 1 << 20].map(count), [1, 1, 1, 2, 3, 128]);
    }
}
