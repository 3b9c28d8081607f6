//! The topology file for NCCL of every completed definition, as NCCL's reader takes it.

use testing::nccl::{Graph, load};

use super::{completed, stdout};

#[test]
fn nccl_reads_the_file_of_every_completed_definition() {
    let mut gpus = 0;
    for one in completed() {
        let output = one
            .case
            .run_without_target(&["topology", "--nccl", "--file"], &one.xml);
        let system = load(&stdout(&output));
        let name = one.name();
        let graph = Graph::of(&system.expect(&name));
        for gpu in graph.gpus() {
            assert!(graph.numa_id(gpu).is_some(), "{name}: {gpu}");
            gpus += 1;
        }
    }
    assert!(gpus > 60, "{gpus} GPUs");
}
