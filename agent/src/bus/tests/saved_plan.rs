//! `Plan`, and `Prepare` with its result.

use super::*;
use crate::context::Rules;
use planner::target::Versions;

/// The reply of `Prepare` to a saved plan, given as text.
async fn apply(scene: &Scene, domain: &str, plan: &str) -> Result<String, Fault> {
    let options = HashMap::from([("plan", Variant::from(plan))]);
    let done = scene.manager().await.prepare(domain, options).await;
    done.map_err(Fault::from)
}

/// The scene with a defined guest, and the agent's plan for it.
async fn planned() -> (Scene, DomainRef, String) {
    let scene = scene().await;
    let domain = scene.libvirt.put(&guest(GPU));
    let plan = scene.manager().await.plan("d0", HashMap::new()).await;
    (scene, domain, plan.expect("plan"))
}

#[tokio::test]
async fn a_printed_plan_is_applied_exactly() {
    let (scene, domain, plan) = planned().await;
    assert_eq!(
        scene.libvirt.text(&domain),
        guest(GPU),
        "a plan changes nothing"
    );
    assert!(
        scene
            .manager()
            .await
            .list_domains(HashMap::new())
            .await
            .expect("list")
            .is_empty()
    );
    let value: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let done = apply(&scene, "d0", &format!("{value:#}"))
        .await
        .expect("applied");
    assert!(done.contains(r#""outcome":"completed""#), "{done}");
    assert_eq!(
        scene.libvirt.text(&domain),
        value["text"].as_str().expect("text")
    );
    assert_eq!(scene.libvirt.text(&domain), scene.complete());
}

#[tokio::test]
async fn stale_plan_is_refused_with_the_changed_input() {
    type Change = fn(&Scene);
    let cases: [(&str, Change); 3] = [
        ("the definition", |scene| {
            let edited = guest(GPU).replace("<vcpu>4", "<vcpu>5");
            scene.libvirt.put(&edited);
        }),
        ("QEMU (11.1.0 to 11.2.0)", |scene| {
            let mut versions = Versions::NEWEST_TESTED;
            versions.qemu.minor = 2;
            scene.context.known_versions.learn(versions);
        }),
        ("recipe nvidia-grace", |scene| {
            let recipes = settings::recipes::load(&own_recipe(scene)).expect("recipes");
            let config = Config::default();
            scene.context.reload(Rules { recipes, config });
        }),
    ];
    for (what, change) in cases {
        let (scene, domain, plan) = planned().await;
        change(&scene);
        let before = scene.libvirt.text(&domain);
        let Err(Fault::Refused(sentence)) = apply(&scene, "d0", &plan).await else {
            unreachable!("{what}: the plan was taken");
        };
        assert!(
            sentence.contains(&format!("changed since: {what} (VD-PLN-001)")),
            "{sentence}"
        );
        assert_eq!(scene.libvirt.text(&domain), before);
        assert_eq!(scene.libvirt.defines(), 0);
    }
}

/// A directory with the shipped Grace recipe and a comment in it.
fn own_recipe(scene: &Scene) -> std::path::PathBuf {
    let directory = scene.directory.path().join("recipes.d");
    std::fs::create_dir(&directory).expect("directory");
    let text = format!(
        "# ours\n{}",
        include_str!("../../../recipes/nvidia-grace.toml")
    );
    std::fs::write(directory.join("nvidia-grace.toml"), text).expect("recipe");
    directory
}

#[tokio::test]
async fn plan_of_another_domain_is_refused() {
    let (scene, domain, plan) = planned().await;
    let huge = " ".repeat(planner::saved_plan::MAX_BYTES + 1);
    let edited = plan.replace("a root port of its own", "nothing much");
    for text in ["", "{}", "[1]", &huge, &edited] {
        let fault = apply(&scene, "d0", text).await.expect_err("no plan");
        assert!(
            matches!(&fault, Fault::Refused(s) if s.contains("VD-PLN-002")),
            "{fault:?}"
        );
    }
    let other = guest(GPU)
        .replace("<name>d0", "<name>d1")
        .replace("6f1f0b9e", "6f1f0b9f");
    scene.libvirt.put(&other);
    let fault = apply(&scene, "d1", &plan)
        .await
        .expect_err("another domain");
    assert!(
        matches!(&fault, Fault::Refused(s) if s.contains("the definition")),
        "{fault:?}"
    );
    for replace in [true, false] {
        let both = HashMap::from([
            ("plan", Variant::from("{}")),
            ("replace", Variant::from(replace)),
        ]);
        let answer = scene.manager().await.prepare("d0", both).await;
        let fault = Fault::from(answer.expect_err("both"));
        assert!(
            matches!(&fault, Fault::Failed(s) if s.contains("excludes")),
            "{fault:?}"
        );
    }
    assert_eq!(
        (scene.libvirt.defines(), scene.libvirt.text(&domain)),
        (0, guest(GPU))
    );
}
