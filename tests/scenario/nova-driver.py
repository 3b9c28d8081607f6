"""Creates, stops, starts, reboots and destroys an instance with Nova's own libvirt driver, as nova-compute does.

Nova's code is Debian's, unchanged: configuration, libvirt driver, PCI tracker, objects. The services around nova-compute are absent: no
database, no message queue, no Glance. A class stands in for nova-conductor, and the image is in Nova's cache already.

    nova-driver.py CONFIGURATION IMAGE_ID ALIAS

After each step it prints the step's name on a line, and waits for a line on standard input. An error ends it with the traceback.
"""

import sys

# The first import, as in nova/cmd/compute.py: it decides how threads work.
from nova import monkey_patch

monkey_patch.patch()

import contextlib

import os_brick
import os_vif
from nova import conf, config, context, exception, objects, privsep
from nova.compute import power_state, vm_states
from nova.db.main import api as database
from nova.network import model as network
from nova.objects import base
from nova.pci import manager, request
from nova.virt import driver as drivers
from nova.virt import virtapi
from oslo_log import log


class Conductor:
    """The calls of nova-conductor that the driver and the PCI tracker make. It stores nothing: each list is empty."""

    def object_class_action_versions(self, ctxt, name, method, versions, args, kwargs):
        if (name, method) == ("Service", "get_by_compute_host"):
            raise exception.ComputeHostNotFound(host=config.CONF.host)
        if not name.endswith("List"):
            raise LookupError(f"{name}.{method} needs a database")
        return base.NovaObject.obj_class_from_name(name, versions[name])(ctxt, objects=[])

    def object_action(self, ctxt, thing, method, args, kwargs):
        if method != "save":
            raise LookupError(f"{thing.obj_name()}.{method} needs a database")
        return {"obj_what_changed": set()}, None


class Compute(virtapi.VirtAPI):
    """What the driver asks of nova-compute. Without a port it waits for no event of Neutron."""

    @contextlib.contextmanager
    def wait_for_instance_event(self, instance, event_names, timeout=300, error_callback=None):
        if event_names:
            raise LookupError(f"{event_names} need Neutron")
        yield


def started(arguments):
    """The driver of the configuration, after the same preparation as in nova/cmd/compute.py."""
    config.parse_args(arguments)
    log.setup(config.CONF, "nova")
    # It runs as root, so it needs no helper with more rights.
    privsep.sys_admin_pctxt.set_client_mode(False)
    objects.register_all()
    conf.neutron.register_dynamic_opts(config.CONF)
    conf.devices.register_dynamic_opts(config.CONF)
    os_brick.setup(config.CONF)
    os_vif.initialize()
    database.DISABLE_DB_ACCESS = True
    base.NovaObject.indirection_api = Conductor()
    driver = drivers.load_compute_driver(Compute(), config.CONF.compute_driver)
    driver.init_host(config.CONF.host)
    return driver


def described(ctxt, image, alias):
    """An instance as the API and the scheduler leave it for nova-compute, with a request for a device of this alias, or without."""
    specs = {"pci_passthrough:alias": f"{alias}:1"} if alias else {}
    flavor = objects.Flavor(
        ctxt, id=1, flavorid="1", name="gpu", memory_mb=256, vcpus=2, root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0, vcpu_weight=0,
        disabled=False, is_public=True, extra_specs=specs, description=None,
    )
    instance = objects.Instance(
        ctxt, id=42, uuid="5f2c0a52-3f0e-4b7c-9a55-2b6c1d8e0a42", display_name="gpu", hostname="gpu", host=config.CONF.host, node=config.CONF.host,
        project_id="project", user_id="user", image_ref=image, kernel_id="", ramdisk_id="", memory_mb=256, vcpus=2, root_gb=1, ephemeral_gb=0,
        flavor=flavor, old_flavor=None, new_flavor=None, instance_type_id=1, metadata={}, key_name=None, key_data=None, user_data=None,
        root_device_name="/dev/vda", default_ephemeral_device=None, default_swap_device=None, config_drive="", os_type=None, architecture=None,
        vm_mode=None, vm_state=vm_states.BUILDING, task_state=None, power_state=power_state.NOSTATE, launch_index=0, availability_zone=None,
        reservation_id="r-1", created_at=None, launched_at=None, locked=False, ephemeral_key_uuid=None, cleaned=False,
        system_metadata={"image_hw_machine_type": "q35", "image_disk_format": "raw", "image_container_format": "bare", "image_min_ram": "0",
                         "image_min_disk": "0", "owner_project_name": "project", "owner_user_name": "user"},
        numa_topology=None, migration_context=None, vcpu_model=None, device_metadata=None, trusted_certs=None, resources=None,
        pci_devices=objects.PciDeviceList(objects=[]),
        info_cache=objects.InstanceInfoCache(network_info=network.NetworkInfo([])), tags=objects.TagList(objects=[]),
        keypairs=objects.KeyPairList(objects=[]), security_groups=objects.SecurityGroupList(objects=[]), services=objects.ServiceList(objects=[]),
    )
    instance.pci_requests = request.get_pci_requests_from_flavor(flavor)
    instance.pci_requests.instance_uuid = instance.uuid
    for one in instance.pci_requests.requests:
        one.request_id = "7a7c0a52-3f0e-4b7c-9a55-2b6c1d8e0a42"
    instance.obj_reset_changes(recursive=True)
    return instance


def claimed(ctxt, driver, instance):
    """Assigns the instance a device, as the resource tracker does: from what the driver reports and [pci] of the configuration permits."""
    resources = driver.get_available_resource(config.CONF.host)
    node = objects.ComputeNode(ctxt, id=1, uuid=resources["uuid"], numa_topology=resources["numa_topology"])
    tracker = manager.PciDevTracker(ctxt, node)
    tracker.update_devices_from_hypervisor_resources(resources["pci_passthrough_devices"])
    # The database numbers the devices.
    for number, device in enumerate(tracker.pci_devs):
        device.id = number
    if instance.pci_requests.requests:
        if not tracker.claim_instance(ctxt, instance.pci_requests, None):
            raise SystemExit("the tracker has no such device")
        tracker.allocate_instance(instance)
    return tracker


def done(step):
    print(step, flush=True)
    if not sys.stdin.readline():
        raise SystemExit("standard input ended")


def main(file, image, alias=""):
    driver = started(["nova-compute", "--config-file", file])
    ctxt = context.get_admin_context()
    ctxt.auth_token = "token"
    instance = described(ctxt, image, alias)
    tracker = claimed(ctxt, driver, instance)
    done("started")
    plain = network.NetworkInfo([])
    disks = {"root_device_name": "/dev/vda", "image": [], "ephemerals": [], "block_device_mapping": [], "swap": None}
    driver.spawn(ctxt, instance, instance.image_meta, [], None, {}, network_info=plain, block_device_info=disks)
    instance.power_state = power_state.RUNNING
    done("spawned")
    driver.power_off(instance)
    done("stopped")
    driver.power_on(ctxt, instance, plain, block_device_info=disks)
    done("powered on")
    driver.reboot(ctxt, instance, plain, "HARD", block_device_info=disks)
    done("rebooted")
    driver.destroy(ctxt, instance, plain, block_device_info=disks)
    tracker.free_instance(ctxt, instance)
    done("destroyed")


main(*sys.argv[1:])
