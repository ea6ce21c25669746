module portolan

go 1.19
