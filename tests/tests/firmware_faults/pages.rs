//! The adapter asks for pages of memory and gives them back, or does not.

use super::scene::Scene;

/// Requests.
pub fn requests(scene: &mut Scene<'_>) {
    scene.part("pages are asked for and given back", |scene| {
        let before = scene.pages();
        scene.faults(
            r#"
        [[pages]]
        name = "storm"
        nic = "nic0"
        ask = 50
        every = "2ms"
        count = 100
        "#,
        );
        scene.wait_for_pages(|pages| pages >= before + 5000);
        scene.works();
        scene.inject("pages", "give-back = 5000");
        scene.wait_for_pages(|pages| pages < before + 100);
        scene.works();
    });
    scene.part("more pages than there are", |scene| {
        scene.faults(
            r#"
        [[command]]
        name = "cannot give"
        nic = "nic0"
        match = { opcode = "MANAGE_PAGES", op_mod = 0 }
        action = { delay = "1us" }
        "#,
        );
        scene.inject("pages", "ask = 200_000_000");
        scene.says("vzalloc failed 1600000016");
        scene.says("give fail -12");
        assert_eq!(scene.hits("cannot give"), 1);
        scene.works();
    });
}

/// Not all come back.
pub fn kept(scene: &mut Scene<'_>) {
    scene.part("pages are kept", |scene| {
        scene.inject("pages", "keep = 30");
        scene.unload();
        scene.says("FW did not return all pages. giving up");
        scene.inject("clear", "");
        scene.load();
        scene.works();
    });
}
