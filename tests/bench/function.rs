//! Measures the functions that process each definition, with criterion: `cargo bench -p bench`. `beside` measures whole processes.

#[path = "beside/model.rs"]
mod model;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use domain::Definition;
use domain::lost_elements::lost_elements;
use kernel_glue::host::Host;
use planner::plan::{PlanInput, plan};
use planner::recipe::Recipes;
use planner::revert::revert;
use planner::rewrite::{rewrite, verify};

/// GPUs of the host and of the guest.
const GPUS: [usize; 2] = [1, 4];

fn definition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("definition");
    let recipes = Recipes::shipped().expect("recipes");
    for gpus in GPUS {
        let folder = tempfile::tempdir().expect("folder");
        model::gpus(folder.path(), gpus).expect("host");
        let host = Host::read(folder.path()).expect("host");
        let input = PlanInput::newest(&host, &recipes);
        let plain = model::guest(gpus);
        let definition = Definition::parse(&*plain).expect("definition");
        let done = rewrite(&definition, &input).expect("completed").text;
        let completed = Definition::parse(&*done).expect("definition");
        assert_eq!(revert(&completed).expect("reverted"), plain);
        let id = |name| BenchmarkId::new(name, gpus);
        group.bench_function(id("parse"), |b| b.iter(|| Definition::parse(&*done)));
        group.bench_function(id("plan"), |b| b.iter(|| plan(&input, definition.domain())));
        group.bench_function(id("rewrite"), |b| b.iter(|| rewrite(&definition, &input)));
        group.bench_function(id("again"), |b| b.iter(|| rewrite(&completed, &input)));
        group.bench_function(id("verify"), |b| b.iter(|| verify(&completed, &input)));
        group.bench_function(id("revert"), |b| b.iter(|| revert(&completed)));
        group.bench_function(id("dropped"), |b| b.iter(|| lost_elements(&done, &done)));
        group.bench_function(id("host"), |b| b.iter(|| Host::read(folder.path())));
    }
    group.finish();
}

criterion_group!(functions, definition);
criterion_main!(functions);
