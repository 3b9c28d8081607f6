/* A value that is read when a component appears, and again on request; a late answer to an old request is dropped. */

import { useCallback, useEffect, useState } from "react";

export interface Load<T> { value: T | null, error: unknown, isLoading: boolean, again: () => void }

export const useLoad = <T,>(read: () => Promise<T>): Load<T> => {
    const [state, setState] = useState<Omit<Load<T>, "again">>({ value: null, error: null, isLoading: true });
    const [round, setRound] = useState(0);
    useEffect(() => {
        let isCurrent = true;
        /* 'read' itself may throw, too. */
        Promise.resolve().then(read).then(
            value => { if (isCurrent) setState({ value, error: null, isLoading: false }) },
            (error: unknown) => { if (isCurrent) setState({ value: null, error, isLoading: false }) },
        );
        return () => { isCurrent = false };
    }, [read, round]);
    const again = useCallback(() => {
        setState(before => ({ ...before, isLoading: true }));
        setRound(before => before + 1);
    }, []);
    return { ...state, again };
};
