"""JitNode's hooks of a Type. Both do nothing where the instance does not run."""

from imRobots.Meta import forget_manager, reload_manager


def onUpdate(fullName):
    reload_manager(fullName)
    return {"status": "success"}


def onDelete(fullName):
    forget_manager(fullName)
    return {"status": "success"}
