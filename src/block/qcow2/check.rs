//! Checks the tables and refcounts of an image before imago opens it. Finds truncated and inconsistent images.
//!
//! An image that is opened for writing is checked more closely, because imago allocates clusters by their refcounts: its
//! tables must not overlap each other or guest data, and their clusters must have a refcount above 0.

use super::super::error::DiskError;
use super::super::opened::Opened;
use super::header::Header;
use crate::wire::array;

/// Maximum length of the L1 table, as in QEMU: 32 MiB.
const MAX_L1_ENTRIES: u64 = 4 << 20;
/// Maximum length of the refcount table in bytes, as in QEMU: 8 MiB.
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// Maximum length of the L2 tables that are checked, and of the refcount blocks, in bytes. More would take too long.
const MAX_BYTES: u64 = 64 << 20;
/// The bits of an L1 or L2 entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The bits of a refcount table entry that are an offset.
const REFCOUNT_OFFSET: u64 = !0x1ff;
/// In an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;

/// Clusters that hold a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Table {
    first: u64,
    count: u64,
    what: &'static str,
}

/// Checks all tables of an image. Returns `true` if it has compressed clusters, or could have some in tables that are not checked.
///
/// # Errors
/// Returns [`DiskError::Damaged`] with the reason.
pub(super) fn tables(header: &Header, opened: &Opened) -> Result<bool, DiskError> {
    let checker = Checker { header, opened, cluster: 1 << header.cluster_bits };
    let l1 = checker.l1()?;
    let tables = if opened.write { checker.refcounts(&l1)? } else { Vec::new() };
    checker.l2(&l1, &tables)
}

struct Checker<'a> {
    header: &'a Header,
    opened: &'a Opened,
    cluster: u64,
}

impl Checker<'_> {
    fn damaged<T>(&self, reason: String) -> Result<T, DiskError> {
        Err(DiskError::Damaged { path: self.opened.path.clone(), reason })
    }

    /// Returns the offsets of the L2 tables. Checks that these are inside the file.
    fn l1(&self) -> Result<Vec<u64>, DiskError> {
        let Header { l1_entries, l1_offset, size, .. } = *self.header;
        // No overflow: a cluster has at most 2 MiB, so a table maps at most 512 GiB.
        let needed = size.div_ceil(self.cluster * (self.cluster / 8));
        if l1_entries > MAX_L1_ENTRIES || l1_entries < needed {
            return self.damaged(format!("its L1 table has {l1_entries} entries and should have {needed}"));
        }
        let entries = self.table(l1_offset, l1_entries)?;
        let offsets: Vec<u64> = entries.into_iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0).collect();
        for offset in &offsets {
            self.inside(*offset, "L2 table")?;
        }
        Ok(offsets)
    }

    /// Checks that there is an aligned cluster at `offset`, inside the file.
    fn inside(&self, offset: u64, what: &str) -> Result<(), DiskError> {
        if !offset.is_multiple_of(self.cluster) {
            return self.damaged(format!("its {what} at {offset} is not aligned to a cluster"));
        }
        match offset.checked_add(self.cluster) {
            Some(end) if end <= self.opened.size => Ok(()),
            _ => self.damaged(format!("it is truncated before its {what} at {offset}")),
        }
    }

    /// Checks that the guest's clusters are inside the file and do not overlap `tables`. Returns `true` if some may be compressed.
    fn l2(&self, l1: &[u64], tables: &[Table]) -> Result<bool, DiskError> {
        let mut budget = MAX_BYTES;
        let mut is_compressed = false;
        for offset in l1 {
            if budget < self.cluster {
                return Ok(true);
            }
            budget -= self.cluster;
            for entry in self.table(*offset, self.cluster / 8)? {
                is_compressed |= entry & COMPRESSED != 0;
                let (start, end) = self.data(entry);
                if end == 0 {
                    continue;
                }
                if start >= self.opened.size {
                    return self.damaged(format!("it is truncated before its cluster at {start}"));
                }
                // The tables are sorted and do not overlap, so only the last one that starts before `end` can overlap.
                let last = tables.partition_point(|table| table.first * self.cluster < end);
                let table = last.checked_sub(1).map(|last| &tables[last]);
                if let Some(table) = table.filter(|table| (table.first + table.count) * self.cluster > start) {
                    return self.damaged(format!("the guest's data at {start} overlaps its {}", table.what));
                }
            }
        }
        Ok(is_compressed)
    }

    /// Returns start and end of the data of an L2 entry, or zeros if it has none.
    fn data(&self, entry: u64) -> (u64, u64) {
        if entry & COMPRESSED == 0 {
            let start = entry & OFFSET;
            return (start, if start == 0 { 0 } else { start + self.cluster });
        }
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let start = entry & ((1 << offset_bits) - 1) & (OFFSET | 0x1ff);
        let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
        (start, (start & !511) + (sectors + 1) * 512)
    }

    /// Checks the refcounts of all tables. Returns the tables, sorted by offset.
    fn refcounts(&self, l1: &[u64]) -> Result<Vec<Table>, DiskError> {
        let Header { refcount_offset, refcount_clusters, l1_offset, l1_entries, .. } = *self.header;
        let bytes = refcount_clusters * self.cluster;
        if refcount_clusters == 0 || bytes > MAX_REFCOUNT_TABLE.max(self.cluster) {
            return self.damaged(format!("its refcount table has {refcount_clusters} clusters"));
        }
        if refcount_offset == 0 || !refcount_offset.is_multiple_of(self.cluster) {
            return self.damaged(format!("its refcount table is at {refcount_offset}, which is not a valid offset"));
        }
        let blocks = self.table(refcount_offset, bytes / 8)?;
        let mut tables = vec![
            Table { first: 0, count: 1, what: "header" },
            Table { first: refcount_offset / self.cluster, count: refcount_clusters, what: "refcount table" },
        ];
        if l1_entries > 0 {
            let count = (l1_entries * 8).div_ceil(self.cluster);
            tables.push(Table { first: l1_offset / self.cluster, count, what: "L1 table" });
        }
        tables.extend(l1.iter().map(|offset| Table { first: offset / self.cluster, count: 1, what: "L2 table" }));
        for offset in blocks.iter().filter(|offset| **offset != 0) {
            if offset & !REFCOUNT_OFFSET != 0 {
                return self.damaged(format!("its refcount table has the invalid entry {offset:#x}"));
            }
            self.inside(*offset, "refcount block")?;
            tables.push(Table { first: offset / self.cluster, count: 1, what: "refcount block" });
        }
        tables.sort_unstable();
        if let Some(pair) = tables.windows(2).find(|pair| pair[0].first + pair[0].count > pair[1].first) {
            let (what, other) = (pair[0].what, pair[1].what);
            let at = pair[1].first * self.cluster;
            return self.damaged(format!("its {what} and its {other} overlap at {at}"));
        }
        self.counted(&tables, &blocks)?;
        Ok(tables)
    }

    /// Checks that every cluster of a table has a refcount above 0. Otherwise imago would allocate it for something else.
    fn counted(&self, tables: &[Table], blocks: &[u64]) -> Result<(), DiskError> {
        let bits = 1_u64 << self.header.refcount_order;
        let per_block = self.cluster * 8 / bits;
        let mut budget = MAX_BYTES;
        let mut known = None;
        let mut block = Vec::new();
        for table in tables {
            for cluster in table.first..table.first + table.count {
                let (index, at) = (cluster / per_block, cluster % per_block);
                if known != Some(index) {
                    let Some(offset) = blocks.get(index as usize).filter(|offset| **offset != 0) else {
                        return self.not_counted(table, cluster);
                    };
                    if budget < self.cluster {
                        return Ok(());
                    }
                    budget -= self.cluster;
                    block = self.bytes(*offset, self.cluster)?;
                    known = Some(index);
                }
                if !has_count(&block, at, bits) {
                    return self.not_counted(table, cluster);
                }
            }
        }
        Ok(())
    }

    fn not_counted<T>(&self, table: &Table, cluster: u64) -> Result<T, DiskError> {
        let at = cluster * self.cluster;
        self.damaged(format!(
            "its refcounts mark its {} at {at} as unused (qemu-img check -r all repairs them)",
            table.what
        ))
    }

    fn table(&self, offset: u64, entries: u64) -> Result<Vec<u64>, DiskError> {
        let bytes = self.bytes(offset, entries * 8)?;
        Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(array(entry, 0))).collect())
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, DiskError> {
        if offset > self.opened.size {
            return self.damaged(format!("it is truncated before its table at {offset}"));
        }
        let mut bytes = vec![0; length as usize];
        match self.opened.read(offset, &mut bytes) {
            Ok(read) if read == bytes.len() => Ok(bytes),
            Ok(_) => self.damaged(format!("it is truncated inside its table at {offset}")),
            Err(error) => self.damaged(error.to_string()),
        }
    }
}

/// Returns `true` if entry `at` of a refcount block is above 0.
fn has_count(block: &[u8], at: u64, bits: u64) -> bool {
    let first = (at * bits / 8) as usize;
    if bits >= 8 {
        return block[first..first + (bits / 8) as usize].iter().any(|byte| *byte != 0);
    }
    // Refcounts of less than a byte are stored from the lowest bit up.
    let shift = at * bits % 8;
    block[first] >> shift & ((1 << bits) - 1) as u8 != 0
}
