/* What the page changes: reservations, binds, releases, plans; and an agent, rights or a device that go away meanwhile. */

import assert from "node:assert/strict";
import { mkdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { accessible, act, close, confirm, dialog, go, open, ready, row, scenario, shot, superuser } from "./page.js";
import { actingKernel, guest, startHolder, uuid } from "./scene.js";

const DEVICE = "0000:1b:00.0";

scenario("holders of a device are shown; bind and release", { host: "hgx-8gpu", change: actingKernel }, async scene => {
    mkdirSync(scene.path(`host/proc/driver/nvidia/gpus/${DEVICE}`), { recursive: true });
    writeFileSync(scene.path(`host/proc/driver/nvidia/gpus/${DEVICE}/information`), "Device Minor: \t 0\n");
    startHolder(scene, 1, "systemd", "/dev/null");
    const endService = startHolder(scene, 2211, "nvidia-persistenced", "/dev/nvidia0");
    const page = await open(scene);
    await act(page, DEVICE, "Bind");
    await dialog(page).getByText("nvidia-persistenced (pid 2211, nvidia-persistenced.service): /dev/nvidia0").waitFor();
    await accessible(page, "holders");
    await shot(page, "holders-bind");
    await dialog(page).getByRole("button", { name: "Cancel" }).click();

    endService();
    await act(page, DEVICE, "Bind");
    await dialog(page).getByText("No visible process holds the device.").waitFor();
    await confirm(page, "Bind");
    await dialog(page).getByText(`bind ${DEVICE}: done`).waitFor();
    await dialog(page).getByRole("button", { name: "Close" }).last().click();
    await row(page, DEVICE).getByText("administrator").waitFor();
    assert.match(readlinkSync(scene.path(`host/sys/bus/pci/devices/${DEVICE}/driver`)), /vfio-pci$/);
    await shot(page, "bound");

    const endGuest = startHolder(scene, 3000, "qemu-system-x86", "/dev/vfio/1");
    await act(page, DEVICE, "Release");
    await dialog(page).getByText("qemu-system-x86 (pid 3000").waitFor();
    await shot(page, "holders-release");
    await confirm(page, "Release");
    await dialog(page).getByText(`release ${DEVICE} failed`).waitFor();
    await shot(page, "release-refused");
    await dialog(page).getByRole("button", { name: "Close" }).last().click();
    endGuest();
    await act(page, DEVICE, "Release");
    await confirm(page, "Release");
    await dialog(page).getByText(`release ${DEVICE}: done`).waitFor();
    await dialog(page).getByRole("button", { name: "Close" }).last().click();
    await row(page, DEVICE).getByText("free").waitFor();
    assert.match(readlinkSync(scene.path(`host/sys/bus/pci/devices/${DEVICE}/driver`)), /nvidia$/);
    await close(page);
});

/* A module that loads until 'release' exists, and then fails; at the latest when the scene ends. */
const slowModule = (host, scene) => {
    mkdirSync(join(host, "usr/sbin"), { recursive: true });
    writeFileSync(join(host, "usr/sbin/modprobe"), `#!/bin/sh\nwhile [ -d ${scene.dir} ] && [ ! -e ${scene.path("release")} ]; do sleep 0.05; done\nexit 1\n`, { mode: 0o755 });
};

/* That of the job: what loads has a progress bar, too. */
const progress = within => within.getByRole("progressbar", { name: `bind ${DEVICE}` });

const startBind = async page => {
    await act(page, DEVICE, "Bind");
    await page.getByText(/[0-9]+ writes/).waitFor();
    await confirm(page, "Bind");
    await progress(dialog(page)).waitFor();
};
const closeDialog = page => dialog(page).getByRole("button", { name: "Close" }).last().click();

scenario("a reservation, and an agent that is killed, and one that is restarted, during a job", { host: "hgx-8gpu", change: slowModule }, async scene => {
    const page = await open(scene);
    await ready.Devices(page);
    assert.equal(await row(page, "10de:").count(), 8);
    await act(page, DEVICE, "Reserve");
    await confirm(page, "Reserve");
    await row(page, DEVICE).getByText("reserved").waitFor();
    await shot(page, "hgx-devices");

    await startBind(page);
    await accessible(page, "dialog with a running job");
    await shot(page, "dialog-running");
    await closeDialog(page);
    await go(page, "Activity");
    await progress(page).waitFor();
    await accessible(page, "running job");
    await shot(page, "activity-running");
    await scene.stopAgent("SIGKILL");
    await page.getByText("variantd ended before the job did").waitFor();
    await go(page, "Devices");
    await page.getByText("variantd does not answer").waitFor();
    await accessible(page, "away");
    await shot(page, "agent-away");
    await go(page, "Health");
    await ready.Health(page);
    await scene.startAgent();
    await go(page, "Devices");
    await row(page, DEVICE).getByText("reserved").waitFor();

    await startBind(page);
    await scene.restartAgent();
    await dialog(page).getByText("variantd ended before the job did").waitFor();
    await closeDialog(page);
    await row(page, DEVICE).getByText("reserved").waitFor();
    writeFileSync(scene.path("release"), "");
    await act(page, DEVICE, "Bind");
    await confirm(page, "Bind");
    await dialog(page).getByText(`bind ${DEVICE} failed`).waitFor();
    await closeDialog(page);
    await go(page, "Activity");
    await page.getByText("answers again").nth(1).waitFor();
    assert.equal(await page.getByText("variantd ended before the job did").count(), 2);
    await shot(page, "activity-restarted");
    await close(page);
});

scenario("a user without rights is told how to get them", { host: "hgx-8gpu", isUnprivileged: true }, async scene => {
    const page = await open(scene);
    await page.getByText("Administrative access is off").waitFor();
    await accessible(page, "without administrative access");
    await act(page, DEVICE, "Bind");
    await dialog(page).getByText("Turn on administrative access").first().waitFor();
    await confirm(page, "Bind");
    await dialog(page).getByText("Bind failed").or(dialog(page).getByText(`bind ${DEVICE} failed`)).first().waitFor();
    await accessible(page, "denied");
    await shot(page, "denied");
    await close(page);
});

scenario("administrative access is turned off while a dialog is open, and while a job runs", { host: "hgx-8gpu", isUnprivileged: true, hasSudo: true, change: slowModule }, async scene => {
    const page = await open(scene);
    await superuser(page, true);
    await ready.Devices(page);
    await page.getByText("Administrative access is off").waitFor({ state: "detached" });
    await act(page, DEVICE, "Bind");
    await dialog(page).getByText(/[0-9]+ writes/).waitFor();

    await superuser(page, false);
    await dialog(page).getByText("Administrative access is off").waitFor();
    await dialog(page).getByText("The bind would be refused").waitFor();
    await accessible(page, "dialog without administrative access");
    await shot(page, "access-off-dialog");
    await superuser(page, true);
    await dialog(page).getByText(/[0-9]+ writes/).waitFor();
    assert.equal(await dialog(page).getByText("Administrative access is off").count(), 0);

    await confirm(page, "Bind");
    await progress(dialog(page)).waitFor();
    await superuser(page, false);
    await dialog(page).getByText("its progress is not visible without administrative access").waitFor();
    await shot(page, "access-off-job");
    await superuser(page, true);
    await progress(dialog(page)).waitFor();
    writeFileSync(scene.path("release"), "");
    await dialog(page).getByText(`bind ${DEVICE} failed`).waitFor();
    await closeDialog(page);
    await row(page, DEVICE).getByText("free").waitFor();
    await go(page, "Activity");
    assert.equal(await page.getByText("administrative access: off").count(), 2);
    assert.equal(await page.getByText("does not answer").count(), 0);
    await close(page);
});

scenario("a bind that gets no reply has not failed: access is turned off, and the agent is killed", { host: "hgx-8gpu", isUnprivileged: true, hasSudo: true }, async scene => {
    const page = await open(scene);
    await superuser(page, true);
    await ready.Devices(page);
    for (const end of [() => superuser(page, false), () => scene.stopAgent("SIGKILL")]) {
        await act(page, DEVICE, "Bind");
        await dialog(page).getByText(/[0-9]+ writes/).waitFor();
        scene.agent.kill("SIGSTOP");
        await confirm(page, "Bind");
        await end();
        await dialog(page).getByText("Bind: no reply came").waitFor();
        assert.equal(await dialog(page).getByText("Bind failed").count(), 0);
        scene.agent.kill("SIGCONT");
        await dialog(page).getByRole("button", { name: "Cancel" }).click();
        await superuser(page, true).catch(() => { /* It is on. */ });
    }
    await scene.startAgent();
    await row(page, DEVICE).getByText("free").waitFor();
    await close(page);
});

scenario("a dialog stays while the agent is away", { host: "hgx-8gpu" }, async scene => {
    const page = await open(scene);
    await act(page, DEVICE, "Bind");
    await dialog(page).getByText(/[0-9]+ writes/).waitFor();
    await scene.stopAgent("SIGKILL");
    await dialog(page).getByText("variantd does not answer").waitFor();
    assert.equal(await dialog(page).getByRole("button", { name: "Bind", exact: true }).isDisabled(), true);
    await accessible(page, "dialog without an agent");
    await shot(page, "agent-away-dialog");
    await scene.startAgent();
    await dialog(page).getByText("variantd does not answer").waitFor({ state: "detached" });
    await dialog(page).getByText(/[0-9]+ writes/).waitFor();
    assert.equal(await dialog(page).getByRole("button", { name: "Bind", exact: true }).isEnabled(), true);
    await dialog(page).getByRole("button", { name: "Cancel" }).click();
    await row(page, DEVICE).getByText("free").waitFor();
    await close(page);
});

/* A bind that was interrupted, and a device that does not leave the driver: nothing acts on writes to the files of this host. */
const degraded = (host, scene) => {
    const device = join(host, "sys/bus/pci/devices", DEVICE);
    const link = readlinkSync(join(device, "driver")).replace("nvidia", "vfio-pci");
    rmSync(join(device, "driver"));
    symlinkSync(link, join(device, "driver"));
    mkdirSync(join(host, "sys/bus/pci/drivers/vfio-pci"), { recursive: true });
    for (const name of ["bind", "unbind"])
        writeFileSync(join(host, "sys/bus/pci/drivers/vfio-pci", name), "");
    mkdirSync(scene.path("run/records"), { recursive: true });
    const before = { driver: "nvidia", driver_override: null };
    const record = { version: 2, device: DEVICE, owner: "admin", target: "vfio-pci", before, phase: "degraded" };
    writeFileSync(scene.path(`run/records/${DEVICE}.json`), JSON.stringify(record));
};

const train = [guest("train", uuid(1), ["0000:43:00.0"], { arch: "x86_64" })];

scenario("a plan as a diff, made and reverted; a degraded device has one action; a device vanishes", { host: "hgx-8gpu", guests: train, change: degraded }, async scene => {
    const page = await open(scene);
    await row(page, DEVICE).getByText("degraded").waitFor();
    await shot(page, "degraded");
    await act(page, DEVICE, "Recover");
    await accessible(page, "recover");
    await dialog(page).getByRole("button", { name: "Cancel" }).click();
    await go(page, "Guests");
    await row(page, "train").getByRole("button").click();
    await page.locator(".vd-added").first().waitFor();
    await accessible(page, "plan");
    await shot(page, "plan");
    await page.getByRole("button", { name: "Prepare" }).click();
    await page.getByText("prepare train: done").waitFor();
    await page.getByText("The definition is complete.").waitFor();
    await shot(page, "prepared");
    await page.getByRole("button", { name: "Revert" }).click();
    await page.getByText("revert train: done").waitFor();
    await row(page, "train").getByText("reverted").first().waitFor();
    await go(page, "Devices");
    await act(page, "0000:52:00.0", "Bind");
    rmSync(scene.path("host/sys/bus/pci/devices/0000:52:00.0"));
    scene.agent.kill("SIGHUP");
    await page.getByText("is not on this host any more").waitFor();
    assert.equal(await dialog(page).getByRole("button", { name: "Bind", exact: true }).isDisabled(), true);
    await shot(page, "vanished");
    await close(page);
});
