//! Reads CPUs from `/sys/devices/system/cpu` and huge pages from `/sys/devices/system/node`.
//!
//! A file that is missing is not a gap: clusters, caches and huge pages depend on the kernel's configuration.

use std::path::Path;

use super::Reader;
use crate::capacity::{Capacity, MAX_CPUS, Pages};
use crate::failure::Failure;
use crate::numa::{Numa, NumaNode, RangeList};
use crate::sysfs::{Root, Tree};

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";
/// Maximum number of page sizes of a node; arm64 has four.
const MAX_SIZES: usize = 16;

impl Capacity {
    /// Reads the host below `root`: `/`, or the directory of a recorded host. `numa` is that host's.
    ///
    /// # Errors
    /// `root` cannot be opened, or the process runs out of descriptors or memory.
    pub fn read(root: &Path, numa: &Numa) -> Result<Self, Failure> {
        Self::read_tree(&Root::new(root.to_owned())?, numa)
    }

    pub(crate) fn read_tree(tree: &dyn Tree, numa: &Numa) -> Result<Self, Failure> {
        let mut reader = Reader::without_recorded_gaps(tree);
        let online = reader.cpu_list(&format!("{CPUS}/online"));
        let mut capacity = Self {
            offline: reader
                .cpu_list(&format!("{CPUS}/offline"))
                .unwrap_or_default(),
            pages: numa
                .nodes
                .iter()
                .flat_map(|node| reader.pages(node.id))
                .collect(),
            ..Self::default()
        };
        if let Some(online) = &online {
            let groups = |reader: &mut Reader<'_>, names: &[&str]| reader.groups(online, names);
            let names = ["topology/core_cpus_list", "topology/thread_siblings_list"];
            capacity.cores = match reader.has_single_threads() {
                true => online
                    .iter()
                    .map(|cpu| [cpu].into_iter().collect())
                    .collect(),
                false => groups(&mut reader, &names),
            };
            let packages = groups(&mut reader, &["topology/package_cpus_list"]);
            let clusters = groups(&mut reader, &["topology/cluster_cpus_list"]);
            capacity.clusters = between(clusters, &capacity.cores, &packages);
            capacity.caches = groups(&mut reader, &["cache/index3/shared_cpu_list"]);
        }
        capacity.online = online;
        capacity.gaps = reader.into_gaps()?;
        Ok(capacity)
    }
}

/// The clusters, if they are neither the cores nor the packages: without a cluster level the kernel shows one of these.
fn between(
    clusters: Vec<RangeList>,
    cores: &[RangeList],
    packages: &[RangeList],
) -> Vec<RangeList> {
    match clusters == cores || clusters == packages || clusters.iter().all(|one| one.len() < 2) {
        true => Vec::new(),
        false => clusters,
    }
}

impl Reader<'_> {
    fn cpu_list(&mut self, path: &str) -> Option<RangeList> {
        let text = self.optional_text(path)?;
        let list: Option<RangeList> = text.parse().ok();
        let bounded = list.filter(|list| list.len() <= MAX_CPUS);
        self.known(path, bounded, &text)
    }

    /// No core has two online CPUs, so that their lists need not be read.
    fn has_single_threads(&mut self) -> bool {
        self.optional_text(&format!("{CPUS}/smt/active")).as_deref() == Some("0")
    }

    /// The groups of online CPUs of which the first existing file of these names in `cpuN` is a list. Each group is read once.
    fn groups(&mut self, online: &RangeList, names: &[&str]) -> Vec<RangeList> {
        let mut groups: Vec<RangeList> = Vec::new();
        let mut seen = vec![false; online.iter().last().map_or(0, |last| last as usize + 1)];
        for cpu in online.iter() {
            if seen[cpu as usize] {
                continue;
            }
            let paths = names.iter().map(|name| format!("{CPUS}/cpu{cpu}/{name}"));
            let mut lists = paths.filter_map(|path| self.cpu_list(&path));
            let Some(list) = lists.next() else {
                continue;
            };
            // A CPU in two groups, or in another's, would be given to a guest twice.
            let own = |one: &u32| online.contains(*one) && !seen[*one as usize];
            let group: RangeList = list.iter().filter(own).chain([cpu]).collect();
            group.iter().for_each(|one| seen[one as usize] = true);
            groups.push(group);
        }
        groups
    }

    fn pages(&mut self, node: NumaNode) -> Vec<Pages> {
        let dir = format!("{NODES}/node{node}/hugepages");
        let listed = self.tree.list(&dir);
        let names = self.optional(&dir, listed).unwrap_or_default();
        let sizes = names.iter().filter_map(|name| page_size(name));
        let mut sizes: Vec<u64> = sizes.take(MAX_SIZES).collect();
        sizes.sort_unstable();
        sizes
            .into_iter()
            .filter_map(|size| self.pages_of(node, size))
            .collect()
    }

    fn pages_of(&mut self, node: NumaNode, size_kib: u64) -> Option<Pages> {
        let dir = format!("{NODES}/node{node}/hugepages/hugepages-{size_kib}kB");
        let total = self.count(&format!("{dir}/nr_hugepages"))?;
        let free = self.count(&format!("{dir}/free_hugepages"))?;
        Some(Pages {
            node,
            size_kib,
            total,
            // Surplus pages of an overcommitted pool are free beside the reserved ones; a guest must not count on them.
            free: free.min(total),
        })
    }

    fn count(&mut self, path: &str) -> Option<u64> {
        let text = self.optional_text(path)?;
        self.known(path, text.trim().parse().ok(), &text)
    }
}

/// The size in the name `hugepages-2048kB`, in KiB.
fn page_size(name: &str) -> Option<u64> {
    let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let size: u64 = size.parse().ok()?;
    let is_written = size.is_power_of_two() && format!("hugepages-{size}kB") == name;
    is_written.then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("scratch directory");
        for (path, text) in files {
            let path = dir.path().join("sys/devices/system").join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, format!("{text}\n")).expect("file");
        }
        dir
    }

    fn read(files: &[(&str, &str)]) -> Capacity {
        let dir = host(files);
        let node = |id: u32| crate::numa::Node {
            id: id.try_into().expect("node"),
            cpus: RangeList::default(),
            memory_kib: 0,
            distances: Vec::new(),
        };
        let numa = Numa {
            nodes: vec![node(0), node(1)],
            generic_initiators: None,
        };
        Capacity::read(dir.path(), &numa).expect("capacity")
    }

    fn lists(lists: &[RangeList]) -> Vec<String> {
        lists.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_host_that_shows_nothing_has_no_facts_and_no_gaps() {
        assert_eq!(read(&[]), Capacity::default());
    }

    #[test]
    fn siblings_and_caches_are_groups_of_online_cpus() {
        let capacity = read(&[
            ("cpu/online", "0-4,6-7"),
            ("cpu/offline", "5"),
            ("cpu/cpu0/topology/core_cpus_list", "0,4"),
            ("cpu/cpu1/topology/thread_siblings_list", "1,5"),
            ("cpu/cpu2/topology/core_cpus_list", "2,6"),
            ("cpu/cpu0/cache/index3/shared_cpu_list", "0-1,4-5"),
            ("cpu/cpu2/cache/index3/shared_cpu_list", "2-3,6-7"),
        ]);
        assert_eq!(lists(&capacity.cores), ["0,4", "1", "2,6"]);
        assert_eq!(lists(&capacity.caches), ["0-1,4", "2-3,6-7"]);
        assert_eq!(capacity.siblings(6).to_string(), "2,6");
        assert_eq!(capacity.siblings(3).to_string(), "3");
        assert!(!capacity.is_online(5) && capacity.is_online(3));
        assert_eq!(capacity.offline.to_string(), "5");
        assert!(capacity.gaps.is_empty());
    }

    #[test]
    fn without_smt_each_cpu_is_a_core() {
        let of = |active: &str| {
            let files = [("cpu/online", "0,2"), ("cpu/smt/active", active)];
            lists(&read(&files).cores)
        };
        assert_eq!(of("0"), ["0", "2"]);
        assert_eq!(of("1"), Vec::<String>::new());
    }

    #[test]
    fn contradicting_lists_never_put_a_cpu_into_two_groups() {
        let capacity = read(&[
            ("cpu/online", "0-3"),
            ("cpu/cpu0/topology/core_cpus_list", "1-2"),
            ("cpu/cpu3/topology/core_cpus_list", "0-3,9"),
        ]);
        assert_eq!(lists(&capacity.cores), ["0-2", "3"]);
    }

    #[test]
    fn clusters_that_are_packages_or_cores_are_left_out() {
        let with = |cluster: &str| {
            let capacity = read(&[
                ("cpu/online", "0-3"),
                ("cpu/cpu0/topology/package_cpus_list", "0-3"),
                ("cpu/cpu0/topology/cluster_cpus_list", cluster),
                ("cpu/cpu2/topology/cluster_cpus_list", "2-3"),
            ]);
            lists(&capacity.clusters)
        };
        assert_eq!(with("0-3"), Vec::<String>::new());
        assert_eq!(with("0-1"), ["0-1", "2-3"]);
    }

    #[test]
    fn pages_are_by_node_and_size() {
        let capacity = read(&[
            ("node/node0/hugepages/hugepages-1048576kB/nr_hugepages", "8"),
            (
                "node/node0/hugepages/hugepages-1048576kB/free_hugepages",
                "3",
            ),
            ("node/node0/hugepages/hugepages-2048kB/nr_hugepages", "4"),
            ("node/node0/hugepages/hugepages-2048kB/free_hugepages", "6"),
            ("node/node1/hugepages/hugepages-2048kB/nr_hugepages", "-1"),
            ("node/node1/hugepages/hugepages-3kB/nr_hugepages", "1"),
            ("node/node1/hugepages/hugepages-02048kB/nr_hugepages", "1"),
        ]);
        let pages = capacity
            .pages
            .iter()
            .map(|one| (u32::from(one.node), one.size_kib, one.total, one.free));
        let pages: Vec<_> = pages.collect();
        assert_eq!(pages, [(0, 2048, 4, 4), (0, 1 << 20, 8, 3)]);
        assert_eq!(capacity.gaps.len(), 1);
    }

    #[test]
    fn a_list_that_no_kernel_prints_is_a_gap() {
        for text in ["0-9000", "x", "3-1"] {
            let capacity = read(&[("cpu/online", text)]);
            assert_eq!((capacity.online, capacity.gaps.len()), (None, 1), "{text}");
        }
    }
}
