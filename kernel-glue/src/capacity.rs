//! What a host has for the processors and memory of guests: online CPUs, cores, caches, clusters and huge pages.
//!
//! Read only where a guest's layout is computed: a host with 144 CPUs has some 200 of these files, and the count of free huge
//! pages changes with each start of a guest, so [`crate::host::Host`] has none of this. Follows
//! Documentation/ABI/stable/sysfs-devices-system-cpu and Documentation/admin-guide/mm/hugetlbpage.rst.

use serde::{Deserialize, Serialize};

use crate::host::Gap;
use crate::numa::{NumaNode, RangeList};

/// Maximum number of CPUs of a kernel (NR_CPUS with MAXSMP, arch/x86/Kconfig; arm64 has 4096).
pub const MAX_CPUS: usize = 8192;

/// CPUs and huge pages of a host. A fact that the host does not show is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// CPUs that run; `None` if the host does not show which.
    pub online: Option<RangeList>,
    /// CPUs that exist and do not run (`cpu/offline`).
    pub offline: RangeList,
    /// The online CPUs of each core (SMT siblings), in the order of their first CPU. A CPU whose siblings are unknown is in none.
    pub cores: Vec<RangeList>,
    /// The online CPUs of each cluster (`cluster_cpus_list`, Linux 5.16 and later), if one has several and is smaller than a package.
    pub clusters: Vec<RangeList>,
    /// The online CPUs that share a cache of level 3.
    pub caches: Vec<RangeList>,
    /// Huge pages, by node and ascending size.
    pub pages: Vec<Pages>,
    /// Files whose content is not as the kernel documents it, in path order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// The huge pages of one size on one node (`nodeN/hugepages/hugepages-*kB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    /// The node.
    pub node: NumaNode,
    /// The size of a page in KiB: a power of two, such as 2048, 524288 (512 MiB, arm64 with pages of 64 KiB) or 1048576.
    pub size_kib: u64,
    /// How many the kernel has reserved (`nr_hugepages`).
    pub total: u64,
    /// How many of these no process uses (`free_hugepages`), at the time of the read.
    pub free: u64,
}

impl Capacity {
    /// True for a CPU that runs. Where the host does not show which CPUs are online, all are.
    #[must_use]
    pub fn is_online(&self, cpu: u32) -> bool {
        self.online.as_ref().is_none_or(|list| list.contains(cpu))
    }

    /// The online CPUs of `cpu`'s core; only itself if its siblings are unknown.
    #[must_use]
    pub fn siblings(&self, cpu: u32) -> RangeList {
        let core = self.cores.iter().find(|core| core.contains(cpu));
        core.cloned().unwrap_or_else(|| [cpu].into_iter().collect())
    }

    /// True if it names no more CPUs and nodes than a kernel has. One that was read from a host does; a text from elsewhere may not.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let all = |lists: &[RangeList]| {
            lists.len() <= MAX_CPUS && {
                let sizes = lists.iter().map(RangeList::len);
                sizes.fold(0, usize::saturating_add) <= MAX_CPUS
            }
        };
        let single = [&self.offline].into_iter().chain(&self.online);
        let mut single = single.map(RangeList::len);
        single.all(|len| len <= MAX_CPUS)
            && [&self.cores, &self.clusters, &self.caches]
                .into_iter()
                .all(|lists| all(lists))
            && self.pages.len() <= MAX_CPUS
            && self.pages.iter().all(|pages| pages.size_kib > 0)
    }

    /// The huge pages of a node, by ascending size.
    pub fn pages(&self, node: NumaNode) -> impl Iterator<Item = &Pages> {
        self.pages.iter().filter(move |pages| pages.node == node)
    }
}
