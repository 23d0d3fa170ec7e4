import running_host


def pytest_configure(config):
    running_host.use(config)
