"""JitNode's hooks of a Type. Both do nothing where the instance does not run."""

from imRobots.Meta import forget_robot, reload_robot


def onUpdate(fullName):
    reload_robot(fullName)


def onDelete(fullName):
    forget_robot(fullName)
